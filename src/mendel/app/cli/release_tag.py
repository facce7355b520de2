"""`mendel tag`: the release status of a project, and its next releases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from mendel.app.cli.options import ClassifierName, DryRun, ProjectPath, as_usage
from mendel.app.cli.output import Result, warn
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import RELEASES
from mendel.errors import InvalidProject, ReleaseRefused

if TYPE_CHECKING:
    from mendel.projects import Git, Project, RepositoryState, TagPlan, TagRefused, ToolBuild
    from mendel.values import Bump, SemVer

_MOST_TAGS_IN_ONE_PUSH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRequest:
    """The arguments of `mendel tag`: the classifiers, the part of the version to raise, and the checks to skip."""

    bump: Bump | SemVer
    classifier: str | None
    every: bool
    message: str | None
    allow_untracked: bool
    allow_missing_tool: bool

    def __post_init__(self) -> None:
        if self.every and self.classifier is not None:
            raise click.BadParameter("give --classifier or --all, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagReport:
    """A release tag; ``made`` is false in a dry run."""

    tag: str
    classifier: str
    version: str
    previous: str
    commit: str
    tool: str
    made: bool


def tag(
    bump: Annotated[
        str | None, argument("[major|minor|patch]", "The part of the version number to raise for the next release.")
    ] = None,
    *,
    classifier: ClassifierName = None,
    every: Annotated[bool, option("--all", help="Tag every classifier whose status is not Ready.")] = False,
    version: Annotated[
        str | None, option("--version", metavar="X.Y.Z", help="Release this version instead of the next one.")
    ] = None,
    annotate: Annotated[
        bool,
        option(
            "--annotate",
            help="Annotate the lightweight tag of the newest release of each classifier; older tags stay as they are.",
        ),
    ] = False,
    message: Annotated[str | None, option("--message", "-m", metavar="TEXT", help="The message of the tag.")] = None,
    dry_run: DryRun = False,
    allow_untracked: Annotated[
        bool,
        option(
            "--allow-untracked",
            help="Tag even if git does not track some of the configured artefacts; the tag records their digests.",
        ),
    ] = False,
    allow_missing_mlserver: Annotated[
        bool, option("--allow-missing-mlserver", help="Tag even if the commit of this tool is unknown.")
    ] = False,
    path: ProjectPath = None,
) -> Result | Iterator[Result]:
    """
    Show the release status, or tag the next release.

    Without an argument, print the status of every classifier.
    """
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - help must be quick
    from mendel.app.images.release_files import image_files  # noqa: PLC0415
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.projects import load_project, read_repository_state  # noqa: PLC0415

    where, git, tool = path or Path.cwd(), GitPrograms(), this_tool()
    if sum(given is not None for given in (bump, version)) + annotate > 1:
        raise click.BadParameter("give one of: major, minor or patch; --version; --annotate")
    if annotate:
        return _annotate(read_repository_state(load_project(where), git), git, classifier, message)
    if bump is None and version is None:
        if every or dry_run or allow_untracked or allow_missing_mlserver or message is not None:
            raise click.BadParameter("the part of the version to raise is missing; give major, minor or patch")
        return _status(read_repository_state(load_project(where), git, image_files), tool, classifier)
    request = TagRequest(
        bump=_bump(bump) if version is None else _version(version),
        classifier=classifier,
        every=every,
        message=message,
        allow_untracked=allow_untracked,
        allow_missing_tool=allow_missing_mlserver,
    )
    seen = read_repository_state(_project_to_tag(where, git), git, image_files)
    for hint in seen.project.hints:
        warn(f"hint: {hint}")
    plans = _plans(seen, request, tool)
    if dry_run:
        return (Result(_report(plan, made=False), _plan_lines(plan, tool)) for plan in plans)
    return _make(plans, git, tool, seen.project)


def _status(seen: RepositoryState, tool: ToolBuild, classifier: str | None) -> Result:
    from mendel.projects import release_status, shown_classifiers  # noqa: PLC0415 - help must be quick

    _in_repository(seen)
    shown = {one.name for one in shown_classifiers(seen.project, classifier)}
    rows = tuple(row for row in release_status(seen, tool) if row.classifier in shown)
    for hint in seen.project.hints:
        warn(f"hint: {hint}")
    found = {"tool": tool.short, "classifiers": rows}
    return Result(found, [RELEASES.grid(rows), f" Current MLServer commit: {tool.short}"])


def _plan_lines(plan: TagPlan, tool: ToolBuild) -> Iterator[str]:
    yield f"Would create tag: {plan.tag}"
    yield from _details(plan, tool)


def _made_lines(plan: TagPlan, tool: ToolBuild, project: Project, *, alone: bool) -> Iterator[str]:
    """Describe the new tag and the next steps; GitHub starts no workflow for a push of more than three tags."""
    name = plan.tag.classifier
    yield f"✓ Created tag: {plan.tag}"
    yield from _details(plan, tool)
    yield ""
    yield "Next steps:"
    yield f"  1. Push tags to remote: git push {'--tags' if alone else f'origin {plan.tag}'}"
    yield f"  2. Build container: mlserver build --classifier {name}"
    yield f"  3. Push to registry: mlserver push --classifier {name} --registry <url>"
    if project.classifier(name).retraining:
        yield f"  Or train a version of this release: mendel train --classifier {name} --data <file>"


def _details(plan: TagPlan, tool: ToolBuild) -> Iterator[str]:
    yield ""
    how = "given" if plan.bump is None else f"{plan.bump} bump"
    yield f"  Version: {plan.previous or 'none'} → {plan.tag.version} ({how})"
    yield f"  MLServer commit: {tool.short}{'' if plan.tag.reproducible else ' (not reproducible)'}"
    yield f"  Classifier commit: {plan.commit[:8]}"


def _report(plan: TagPlan, *, made: bool) -> TagReport:
    return TagReport(
        tag=str(plan.tag),
        classifier=plan.tag.classifier,
        version=str(plan.tag.version),
        previous=str(plan.previous or ""),
        commit=plan.commit,
        tool=plan.tag.tool,
        made=made,
    )


def _in_repository(seen: RepositoryState) -> Path:
    """The root of the checkout; outside of a repository, or before its first commit, there are no releases."""
    if seen.work_tree is None:
        raise ReleaseRefused(
            f"The project {seen.project.root} is not in a git repository, so it has no releases.",
            remedy="Run: git init && git add -A && git commit",
        )
    if seen.work_tree.head is None:
        raise ReleaseRefused(
            f"The repository {seen.work_tree.top} has no commit yet, so it has no releases.",
            remedy="Run: git add -A && git commit",
        )
    return seen.work_tree.top


def _annotate(seen: RepositoryState, git: Git, classifier: str | None, message: str | None) -> Iterator[Result]:
    """Annotate the newest release of each shown classifier if its tag is lightweight."""
    from mendel.projects import annotation, shown_classifiers  # noqa: PLC0415 - help must be quick

    top = _in_repository(seen)
    shown = {one.name for one in shown_classifiers(seen.project, classifier)}
    light = [release for name, release in seen.newest.items() if name in shown and not release.annotated]
    if not light:
        warn("The newest release of every classifier is an annotated tag already.")
    for release in light:
        name = str(release.tag)
        git.annotate_tag(top, name, message=annotation(seen, release.tag, message))
        push = f"  If the tag was pushed before, replace it: git push --force origin refs/tags/{name}"
        yield Result({"tag": name, "commit": release.commit}, [f"✓ Annotated tag: {name}", push])


def _version(text: str) -> SemVer:
    from mendel.values import SemVer  # noqa: PLC0415 - help must be quick

    with as_usage():
        return SemVer.parse(text)


def _bump(text: str | None) -> Bump:
    from mendel.values import Bump  # noqa: PLC0415 - help must be quick

    if text not in list(Bump):
        raise click.BadParameter(f"{text!r} is not major, minor or patch")
    return Bump(text)


def _project_to_tag(where: Path, git: Git) -> Project:
    """Load the project; the error about an invalid project file also lists the other reasons against a release."""
    from mendel.app.project.project_file_schema import require_policies  # noqa: PLC0415
    from mendel.projects import find_project_file, load_project, repository_obstacles  # noqa: PLC0415

    try:
        project = load_project(where)
        require_policies(project)
    except InvalidProject as error:
        root = find_project_file(where).parent
        reasons = (str(error), *repository_obstacles(git.work_tree(root), root))
        raise ReleaseRefused("No tag was made.", reasons=reasons) from error
    return project


def _chosen(seen: RepositoryState, tool: ToolBuild, request: TagRequest) -> list[str]:
    from mendel.projects import ReleaseState, chosen_classifier, release_status  # noqa: PLC0415 - help must be quick

    if not request.every:
        return [request.classifier or chosen_classifier(seen.project, None).name]
    stale = [row.classifier for row in release_status(seen, tool) if row.state is not ReleaseState.READY]
    if not stale:
        warn("The status of every classifier is Ready, so no tag was made.")
    return stale


def _plans(seen: RepositoryState, request: TagRequest, tool: ToolBuild) -> list[TagPlan]:
    """Plan the tags of all requested classifiers; if one tag is not allowed, raise an error with every reason."""
    from mendel.app.images.release_files import reasons_against_build  # noqa: PLC0415 - help must be quick
    from mendel.projects import TagPlan, TagRefused, plan_tag, untracked_digests  # noqa: PLC0415 - help must be quick

    names = _chosen(seen, tool, request)
    decided = [
        plan_tag(
            seen,
            name,
            request.bump,
            tool,
            message=request.message,
            recorded=untracked_digests(seen, [name]) if request.allow_untracked else None,
            against_build=reasons_against_build(seen, name),
            allow_missing_tool=request.allow_missing_tool,
        )
        for name in names
    ]
    refused = [one for one in decided if isinstance(one, TagRefused)]
    if refused:
        raise ReleaseRefused("No tag was made.", reasons=_reasons(refused, names))
    return [one for one in decided if isinstance(one, TagPlan)]


def _reasons(refused: Sequence[TagRefused], names: Sequence[str]) -> tuple[str, ...]:
    """List each reason once, with the affected classifiers if it does not affect all of them."""
    whom: dict[str, list[str]] = {}
    for one in refused:
        for reason in one.reasons:
            whom.setdefault(reason, []).append(one.classifier)
    return tuple(
        reason if len(concerned) == len(names) else f"{', '.join(concerned)}: {reason}"
        for reason, concerned in whom.items()
    )


def _make(plans: Sequence[TagPlan], git: Git, tool: ToolBuild, project: Project) -> Iterator[Result]:
    """Make the tags one by one; the error about a tag that cannot be made names the tags that were made before."""
    made: list[TagPlan] = []
    try:
        for plan in plans:
            git.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
            made.append(plan)
            hint = _workflow_hint(plan.top) if plan is plans[-1] else ()
            lines = _made_lines(plan, tool, project, alone=len(plans) <= _MOST_TAGS_IN_ONE_PUSH)
            yield Result(_report(plan, made=True), chain(lines, hint))
    finally:
        if made and len(made) < len(plans):
            warn(f"These tags were made before the error: {', '.join(str(plan.tag) for plan in made)}.")


def _workflow_hint(top: Path) -> Iterator[str]:
    from mendel.projects import ci_workflow  # noqa: PLC0415 - help must be quick

    if ci_workflow(top) is None:
        yield ""
        yield (
            "hint: no CI workflow builds release tags; write a CI workflow with mendel init-github or "
            "mendel init-gitlab."
        )
