"""`mendel tag`: the release status of a project, and its next releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mendel.app.cli.options import AsJson, ClassifierName, ProjectPath
from mendel.app.cli.output import print_json, print_table, say, warn
from mendel.errors import InvalidProject, ReleaseRefused

if TYPE_CHECKING:
    from mendel.projects import Git, Observation, Project, TagPlan, TagRefused, ToolBuild
    from mendel.values import Bump


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be tagged, and what may be overlooked."""

    bump: Bump
    classifier: str | None
    every: bool
    message: str | None
    allow_untracked: bool
    allow_missing_tool: bool

    def __post_init__(self) -> None:
        if self.every and self.classifier is not None:
            raise typer.BadParameter("give --classifier or --all, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A tag, as ``--json`` tells of it."""

    tag: str
    classifier: str
    version: str
    previous: str
    commit: str
    tool: str
    made: bool


def add_to(app: typer.Typer) -> None:
    """Add it."""
    app.command()(tag)


def tag(
    bump: Annotated[str | None, typer.Argument(metavar="[major|minor|patch]", help="Make the next release.")] = None,
    *,
    classifier: ClassifierName = None,
    every: Annotated[bool, typer.Option("--all", help="Tag all that are not Ready.")] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="The tag's message.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be tagged.")] = False,
    allow_untracked: Annotated[
        bool, typer.Option("--allow-untracked", help="Tag though git lacks artefacts; record their digests.")
    ] = False,
    allow_missing_mlserver: Annotated[
        bool, typer.Option("--allow-missing-mlserver", help="Tag though this tool's commit is unknown.")
    ] = False,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Show the release status of every classifier, or make the next release of one."""
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - help must be quick
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.projects import ci_workflow, load_project, observe  # noqa: PLC0415

    where, git, tool = path or Path.cwd(), GitPrograms(), this_tool()
    if bump is None:
        if every or dry_run or allow_untracked or allow_missing_mlserver or message is not None:
            raise typer.BadParameter("say major, minor or patch")
        _show_status(observe(load_project(where), git), tool, classifier, json=json)
        return
    wish = Wish(
        bump=_bump(bump),
        classifier=classifier,
        every=every,
        message=message,
        allow_untracked=allow_untracked,
        allow_missing_tool=allow_missing_mlserver,
    )
    seen = observe(_project_to_tag(where, git), git)
    for hint in seen.project.hints:
        warn(f"hint: {hint}")
    plans = _plans(seen, wish, tool)
    made = [] if dry_run else _made(plans, git, tool, quiet=json)
    if json:
        print_json([_told(plan, made=plan in made) for plan in plans])
        return
    for plan in plans if dry_run else []:
        _show_plan(plan, tool, made=False)
    if made and ci_workflow(made[0].top) is None:
        say()
        say("hint: no CI workflow makes images of release tags; mendel init-github or init-gitlab writes one.")


def _show_status(seen: Observation, tool: ToolBuild, classifier: str | None, *, json: bool) -> None:
    from mendel.projects import release_status, shown_classifiers  # noqa: PLC0415 - help must be quick

    shown = {one.name for one in shown_classifiers(seen.project, classifier)}
    rows = [row for row in release_status(seen, tool) if row.classifier in shown]
    for hint in seen.project.hints:
        warn(f"hint: {hint}")
    if json:
        print_json({"tool": tool.short, "classifiers": rows})
        return
    print_table(
        "Classifier Version Status",
        ("Classifier", "Version", "MLServer", "Status", "Action Required"),
        ((row.classifier, row.version, f"{row.tool} {row.mark}".strip(), row.status, row.action) for row in rows),
        empty="The project has no classifiers.",
    )
    say(f" Current MLServer commit: {tool.short}")


def _show_plan(plan: TagPlan, tool: ToolBuild, *, made: bool) -> None:
    name = plan.tag.classifier
    say(f"{'✓ Created' if made else 'Would create'} tag: {plan.tag}")
    say()
    say(f"  Version: {plan.previous or 'none'} → {plan.tag.version} ({plan.bump} bump)")
    say(f"  MLServer commit: {tool.short}{'' if plan.tag.reproducible else ' (not reproducible)'}")
    say(f"  Classifier commit: {plan.commit[:8]}")
    if made:
        say()
        say("Next steps:")
        say("  1. Push tags to remote: git push --tags")
        say(f"  2. Build container: mlserver build --classifier {name}")
        say(f"  3. Push to registry: mlserver push --classifier {name} --registry <url>")


def _told(plan: TagPlan, *, made: bool) -> Tagged:
    return Tagged(
        tag=str(plan.tag),
        classifier=plan.tag.classifier,
        version=str(plan.tag.version),
        previous=str(plan.previous or ""),
        commit=plan.commit,
        tool=plan.tag.tool,
        made=made,
    )


def _bump(text: str) -> Bump:
    from mendel.values import Bump  # noqa: PLC0415 - help must be quick

    if text not in list(Bump):
        raise typer.BadParameter(f"{text!r} is not major, minor or patch")
    return Bump(text)


def _project_to_tag(where: Path, git: Git) -> Project:
    """The project; what stands against a release besides an invalid project file is said together with it."""
    from mendel.app.project.schema import require_policies  # noqa: PLC0415
    from mendel.projects import find_project_file, load_project, repository_obstacles  # noqa: PLC0415

    try:
        project = load_project(where)
        require_policies(project)
    except InvalidProject as error:
        root = find_project_file(where).parent
        reasons = (str(error), *repository_obstacles(git.work_tree(root), root))
        raise ReleaseRefused("No tag was made.", reasons=reasons) from error
    return project


def _chosen(seen: Observation, tool: ToolBuild, wish: Wish) -> list[str]:
    from mendel.projects import ReleaseState, chosen_classifier, release_status  # noqa: PLC0415 - help must be quick

    if not wish.every:
        return [wish.classifier or chosen_classifier(seen.project, None).name]
    stale = [row.classifier for row in release_status(seen, tool) if row.state is not ReleaseState.READY]
    if not stale:
        warn("Every classifier is Ready; there is nothing to tag.")
    return stale


def _plans(seen: Observation, wish: Wish, tool: ToolBuild) -> list[TagPlan]:
    """All plans or none."""
    from mendel.projects import TagPlan, TagRefused, plan_tag, untracked_digests  # noqa: PLC0415 - help must be quick

    names = _chosen(seen, tool, wish)
    decided = [
        plan_tag(
            seen,
            name,
            wish.bump,
            tool,
            message=wish.message,
            recorded=untracked_digests(seen, [name]) if wish.allow_untracked else None,
            allow_missing_tool=wish.allow_missing_tool,
        )
        for name in names
    ]
    refused = [one for one in decided if isinstance(one, TagRefused)]
    if refused:
        raise ReleaseRefused("No tag was made.", reasons=_reasons(refused, names))
    return [one for one in decided if isinstance(one, TagPlan)]


def _reasons(refused: Sequence[TagRefused], names: Sequence[str]) -> tuple[str, ...]:
    """Each reason once, with whom it concerns where that is not everybody."""
    whom: dict[str, list[str]] = {}
    for one in refused:
        for reason in one.reasons:
            whom.setdefault(reason, []).append(one.classifier)
    return tuple(
        reason if len(concerned) == len(names) else f"{', '.join(concerned)}: {reason}"
        for reason, concerned in whom.items()
    )


def _made(plans: Sequence[TagPlan], git: Git, tool: ToolBuild, *, quiet: bool) -> list[TagPlan]:
    """Make the tags one by one; whatever stops that, it is said which were made."""
    made: list[TagPlan] = []
    try:
        for plan in plans:
            git.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
            made.append(plan)
            if not quiet:
                _show_plan(plan, tool, made=True)
    finally:
        if made and len(made) < len(plans):
            warn(f"Made before it stopped: {', '.join(str(plan.tag) for plan in made)}.")
    return made
