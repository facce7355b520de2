"""Release status and the plan of a new release tag, decided from one reading of the repository."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mendel.errors import InvalidValue
from mendel.projects.entities import Classifier, Project, project_path
from mendel.projects.ports import Commit, Git, GitTag, WorkTree
from mendel.projects.repository_names import repository_name
from mendel.projects.tag_trailers import (
    REPOSITORY_BRANCH,
    REPOSITORY_NAME,
    REPOSITORY_URL,
    TOOL_URL,
    TOOL_VERSION,
    UNTRACKED_ARTIFACT,
    artifact_value,
    with_trailers,
)
from mendel.values import Bump, Digest, ReleaseTag, SemVer
from mendel.values.directory_trees import file_digest

_WILD = re.compile(r"[*?\[]")
_NEVER_RELEASED = frozenset({".git", ".mendel", ".venv", "__pycache__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBuild:
    """
    The installed tool: its version, the full id of the commit it was built from, and that commit's repository.

    ``commit`` and ``url`` are None when unknown. ``how`` names the source of the commit: ``embedded``, ``vcs``,
    ``checkout``, or ``unknown``.
    """

    version: str
    commit: str | None = None
    url: str | None = None
    how: str = "unknown"

    @property
    def short(self) -> str:
        """The commit as release tags contain it: 7 hex digits, or ``dev`` when unknown."""
        return "dev" if self.commit is None else self.commit[:7]

    @property
    def install(self) -> str:
        """How the tool was installed: ``embedded``, ``vcs``, ``checkout``, or ``wheel`` when the commit is unknown."""
        return "wheel" if self.how == "unknown" else self.how


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """
    A release of a classifier in the repository.

    ``behind`` counts the commits of HEAD's history that the release lacks; None when the release is not in that
    history, or the history is incomplete.
    """

    tag: ReleaseTag
    commit: str
    behind: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """
    The state of the project and its repository, read once, from which release status and plans are decided.

    Attributes:
        project: The project as configured in the working tree.
        work_tree: The git checkout; None outside of a repository.
        newest: The newest release of each classifier that has a release.
        tag_names: The names of all tags, release tags and others.
        without_source: Classifiers whose predictor file is missing.
        untracked: Per classifier, the configured artefacts that git does not track, relative to the project.
        repository_name: The repository's name for tags and labels.
    """

    project: Project
    work_tree: WorkTree | None
    newest: Mapping[str, Release] = field(default_factory=dict)
    tag_names: frozenset[str] = frozenset()
    without_source: frozenset[str] = frozenset()
    untracked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repository_name: str


class ReleaseState(StrEnum):
    """How a classifier's newest release compares with HEAD and with the installed tool."""

    READY = "Ready"
    BEHIND = "Behind"
    TOOL_CHANGED = "Tool changed"
    ELSEWHERE = "Not in this history"
    UNTOLD = "Shallow clone"
    NO_TAGS = "No tags"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRow:
    """One row of the status table; an empty cell is ``-``."""

    classifier: str
    state: ReleaseState
    version: str
    tool: str
    mark: str
    status: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPlan:
    """The release tag to create, and the commit to tag."""

    tag: ReleaseTag
    previous: SemVer | None
    bump: Bump
    commit: str
    message: str
    top: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRefused:
    """Every reason against a release tag, in the order of the checks."""

    classifier: str
    reasons: tuple[str, ...]


def read_repository_state(project: Project, git: Git) -> RepositoryState:
    """Read the repository around *project* once; the number of git processes does not depend on the number of tags."""
    work_tree = git.work_tree(project.root)
    name = repository_name(project, None if work_tree is None else work_tree.origin)
    without_source = frozenset(c.name for c in project.classifiers if c.predictor.source(project.root) is None)
    if work_tree is None:
        return RepositoryState(project=project, work_tree=None, repository_name=name, without_source=without_source)
    tags = git.tags(work_tree.top)
    newest = newest_releases(tags, project.names)
    behind = commits_behind(git.ancestry(work_tree.top), [tag.commit for _, tag in newest.values()])
    tracked = frozenset(git.tracked(project.root))
    return RepositoryState(
        project=project,
        work_tree=work_tree,
        newest={
            classifier: Release(tag=release, commit=tag.commit, behind=behind.get(tag.commit))
            for classifier, (release, tag) in newest.items()
        },
        tag_names=frozenset(tag.name for tag in tags),
        without_source=without_source,
        untracked={c.name: tuple(_untracked(c, project.root, tracked)) for c in project.classifiers},
        repository_name=name,
    )


def newest_releases(tags: Iterable[GitTag], names: Iterable[str]) -> dict[str, tuple[ReleaseTag, GitTag]]:
    """
    Find the newest release of each classifier in *names* among the annotated tags.

    The highest version wins; among tags with equal versions, the tag made last.
    """
    wanted, newest = frozenset(names), dict[str, tuple[ReleaseTag, GitTag]]()
    for tag in tags:
        if not tag.annotated or "-mlserver-" not in tag.name:
            continue
        try:
            release = ReleaseTag.parse(tag.name)
        except InvalidValue:
            continue
        held = newest.get(release.classifier)
        if release.classifier in wanted and (
            held is None or (release.version, tag.made) >= (held[0].version, held[1].made)
        ):
            newest[release.classifier] = (release, tag)
    return newest


def commits_behind(ancestry: Iterable[Commit], commits: Iterable[str]) -> dict[str, int]:
    """
    Count, for each of *commits*, the commits of HEAD's history that are not among its ancestors.

    One walk serves all *commits*: a bit mask at each commit of the history tells which of *commits* are or descend from
    that commit.

    Args:
        ancestry: HEAD's history, children before parents.
        commits: Full commit ids, in any order.

    Returns:
        The count per commit; a commit outside of *ancestry* is left out.
    """
    bits = {commit: 1 << place for place, commit in enumerate(dict.fromkeys(commits))}
    carried, seen, groups = dict[str, int](), set[str](), Counter[int]()
    for commit in ancestry:
        mask = carried.pop(commit.id, 0) | bits.get(commit.id, 0)
        seen.add(commit.id)
        groups[mask] += 1
        for parent in commit.parents:
            carried[parent] = carried.get(parent, 0) | mask
    return {
        commit: sum(count for mask, count in groups.items() if not mask & bit)
        for commit, bit in bits.items()
        if commit in seen
    }


def untracked_digests(seen: RepositoryState, classifiers: Iterable[str]) -> dict[str, Digest]:
    """Compute the digest of every untracked artefact of *classifiers*."""
    names = {name for classifier in classifiers for name in seen.untracked.get(classifier, ())}
    return {name: file_digest(seen.project.root / name) for name in sorted(names)}


def release_status(seen: RepositoryState, tool: ToolBuild) -> tuple[StatusRow, ...]:
    """Give one row per classifier, in the order of mlserver.yaml."""
    return tuple(_row(classifier.name, seen, tool) for classifier in seen.project.classifiers)


def plan_tag(
    seen: RepositoryState,
    classifier: str,
    bump: Bump,
    tool: ToolBuild,
    *,
    message: str | None = None,
    recorded: Mapping[str, Digest] | None = None,
    allow_missing_tool: bool = False,
) -> TagPlan | TagRefused:
    """
    Plan the next release of *classifier*, or give every reason against it.

    Args:
        recorded: The digests of untracked artefacts that the user allowed to release (see :func:`untracked_digests`).
    """
    held = seen.newest.get(classifier)
    previous = None if held is None else held.tag.version
    tag = ReleaseTag(classifier, (previous or SemVer(0, 0, 0)).bumped(bump), tool.short)
    reasons = [*_obstacles(seen, classifier, tag, recorded=recorded or {})]
    if tool.commit is None and not allow_missing_tool:
        reasons.append(
            "the commit of the installed tool is unknown (--allow-missing-mlserver makes a release "
            "that is not reproducible)"
        )
    if reasons or seen.work_tree is None or seen.work_tree.head is None:
        return TagRefused(classifier=classifier, reasons=tuple(reasons))
    return TagPlan(
        tag=tag,
        previous=previous,
        bump=bump,
        commit=seen.work_tree.head,
        message=_message(seen, tag, tool, message, recorded or {}),
        top=seen.work_tree.top,
    )


def _row(name: str, seen: RepositoryState, tool: ToolBuild) -> StatusRow:
    release, shallow = seen.newest.get(name), seen.work_tree is not None and seen.work_tree.shallow
    state = _state(release, tool, shallow=shallow)
    again = f"mlserver tag --classifier {name} <major|minor|patch>"
    action = {ReleaseState.READY: "-", ReleaseState.UNTOLD: "git fetch --unshallow --tags"}.get(state, again)
    behind = 0 if release is None else release.behind or 0
    return StatusRow(
        classifier=name,
        state=state,
        version="-" if release is None else str(release.tag.version),
        tool="-" if release is None else release.tag.tool,
        mark=_mark(release, tool),
        status=f"{behind} commits behind" if state is ReleaseState.BEHIND else state.value,
        action=action,
    )


def _mark(release: Release | None, tool: ToolBuild) -> str:
    if release is None or (tool.commit is None and release.tag.reproducible):
        return ""
    return "✓" if _same_tool(release, tool) else "⚠"


def _state(release: Release | None, tool: ToolBuild, *, shallow: bool) -> ReleaseState:
    match release:
        case None:
            return ReleaseState.UNTOLD if shallow else ReleaseState.NO_TAGS
        case Release(behind=0):
            changed = tool.commit is not None and not _same_tool(release, tool)
            return ReleaseState.TOOL_CHANGED if changed else ReleaseState.READY
        case _ if shallow:
            return ReleaseState.UNTOLD
        case Release(behind=None):
            return ReleaseState.ELSEWHERE
        case _:
            return ReleaseState.BEHIND


def _same_tool(release: Release | None, tool: ToolBuild) -> bool:
    if release is None or tool.commit is None or not release.tag.reproducible:
        return False
    return tool.commit.startswith(release.tag.tool[: len(tool.commit)])


def repository_obstacles(tree: WorkTree | None, root: Path) -> Iterator[str]:
    """Yield each reason in the state of the repository around *root* that forbids any release."""
    if tree is None:
        yield f"the project {root} is not in a git repository"
    elif tree.head is None:
        yield "the repository has no commit yet"
    if tree is not None and tree.changed:
        yield f"tracked files have uncommitted changes: {_listed(tree.changed)}"


def _obstacles(
    seen: RepositoryState, classifier: str, tag: ReleaseTag, *, recorded: Mapping[str, Digest]
) -> Iterator[str]:
    yield from repository_obstacles(seen.work_tree, seen.project.root)
    if classifier not in seen.project.names:
        yield f"the project has no classifier {classifier!r}; its classifiers are {', '.join(seen.project.names)}"
    if classifier in seen.without_source:
        predictor = seen.project.classifier(classifier).predictor
        yield f"the predictor file of {predictor.module!r} is missing"
    if left := [path for path in seen.untracked.get(classifier, ()) if path not in recorded]:
        yield f"git does not track these artefacts: {_listed(left)} (--allow-untracked records their digests)"
    if seen.work_tree is not None and seen.work_tree.shallow and classifier not in seen.newest:
        yield "the clone is shallow and may lack earlier releases (run: git fetch --unshallow --tags)"
    if str(tag) in seen.tag_names:
        yield f"the git tag {tag} already exists"


def _listed(names: Iterable[str], most: int = 5) -> str:
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def _message(
    seen: RepositoryState, tag: ReleaseTag, tool: ToolBuild, message: str | None, recorded: Mapping[str, Digest]
) -> str:
    tree = seen.work_tree
    return with_trailers(
        message or f"Release {tag.classifier} {tag.version}",
        [
            (REPOSITORY_NAME, seen.repository_name),
            (REPOSITORY_BRANCH, None if tree is None else tree.branch),
            (REPOSITORY_URL, None if tree is None else tree.origin),
            (TOOL_VERSION, tool.version),
            (TOOL_URL, tool.url),
            *(
                (UNTRACKED_ARTIFACT, artifact_value(path, recorded[path]))
                for path in seen.untracked.get(tag.classifier, ())
            ),
        ],
    )


def _untracked(classifier: Classifier, root: Path, tracked: frozenset[str]) -> Iterator[str]:
    for relative in sorted(set(_named_paths(classifier))):
        for path in _files_at(root, relative):
            name = path.relative_to(root).as_posix()
            if path.is_file() and name not in tracked and _NEVER_RELEASED.isdisjoint(path.relative_to(root).parts):
                yield name


def _files_at(root: Path, relative: str) -> Iterator[Path]:
    for place in sorted(root.glob(relative)) if _WILD.search(relative) else [root / relative]:
        yield from sorted(place.rglob("*")) if place.is_dir() else [place]


def _named_paths(classifier: Classifier) -> Iterator[str]:
    values = [classifier.feature_order_file, classifier.build.requirements, *classifier.build.include_files]
    for value in (*values, *classifier.predictor.init_kwargs.values()):
        for text in value if isinstance(value, list) else [value]:
            relative = project_path(text) if isinstance(text, str) else None
            if relative is not None:
                yield relative
