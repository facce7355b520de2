"""Release status and the plan of a new release tag, decided from one reading of the repository."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from mendel.errors import InvalidValue
from mendel.projects.entities import Classifier, Project, project_path
from mendel.projects.ports import Commit, Git, GitTag, WorkTree
from mendel.projects.repository_names import repository_name, shared_url
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
_MOST_COMMITS_READ = 1000

ImageFiles = Callable[[Project, Classifier, frozenset[str]], frozenset[str] | None]
"""
Gives the files of a classifier's image from the project, the classifier and the tracked files, all paths relative to
the project; None when no image can be built.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBuild:
    """
    The installed tool: its version, the full id of the commit it was built from, and that commit's repository.

    ``commit`` and ``url`` are None when unknown; a path of this machine is no URL. ``how`` names the source of the
    commit: ``embedded``, ``vcs``, ``checkout``, or ``unknown``.
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

    Attributes:
        behind: The number of commits of HEAD's history that the release lacks and that touch files of the classifier's
            image; None when the release is not in that history, or the history is incomplete.
        annotated: False for a lightweight tag, which records no inputs and cannot be built.
    """

    tag: ReleaseTag
    commit: str
    behind: int | None
    annotated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """
    The state of the project and its repository, read once, from which release status and plans are decided.

    Attributes:
        project: The project as configured in the working tree.
        work_tree: The git checkout; None outside of a repository.
        newest: The release with the highest version of each classifier that has a release: in HEAD's history if one is
            there, else anywhere.
        tag_names: The names of all tags, release tags and others.
        tracked: The files of the project that git tracks, relative to the project.
        without_source: Classifiers whose predictor file is missing.
        unwatched: The files of the project whose changes git is told to ignore, relative to the project.
        untracked: Per classifier, the configured artefacts that git does not track, relative to the project.
        repository_name: The repository's name for tags and labels.
    """

    project: Project
    work_tree: WorkTree | None
    newest: Mapping[str, Release] = field(default_factory=dict)
    tag_names: frozenset[str] = frozenset()
    tracked: frozenset[str] = frozenset()
    without_source: frozenset[str] = frozenset()
    unwatched: tuple[str, ...] = ()
    untracked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repository_name: str


class ReleaseState(StrEnum):
    """How a classifier's newest release compares with HEAD and with the installed tool."""

    READY = "Ready"
    BEHIND = "Behind"
    TOOL_CHANGED = "Tool changed"
    LIGHTWEIGHT = "lightweight"
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
    """The release tag to create, and the commit to tag; ``bump`` is None when the version was given."""

    tag: ReleaseTag
    previous: SemVer | None
    bump: Bump | None
    commit: str
    message: str
    top: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRefused:
    """Every reason against a release tag, in the order of the checks."""

    classifier: str
    reasons: tuple[str, ...]


def read_repository_state(project: Project, git: Git, image_files: ImageFiles | None = None) -> RepositoryState:
    """
    Read the repository around *project* once; the number of git processes does not depend on the number of tags.

    Args:
        image_files: Tells which files count for :attr:`Release.behind`; without it every commit counts.
    """
    work_tree = git.work_tree(project.root)
    name = repository_name(project, None if work_tree is None else work_tree.origin)
    without_source = frozenset(c.name for c in project.classifiers if c.predictor.source(project.root) is None)
    if work_tree is None:
        return RepositoryState(project=project, work_tree=None, repository_name=name, without_source=without_source)
    names = git.tag_names(work_tree.top)
    history = git.ancestry(work_tree.top)
    commits = {commit.id for commit in history}
    newest = newest_releases(git, work_tree.top, names, project.names, counts=lambda tag: tag.commit in commits)
    elsewhere = [name for name in project.names if name not in newest]
    newest |= newest_releases(git, work_tree.top, names, elsewhere)
    tracked = frozenset(git.tracked(project.root))
    lacking = lacking_commits(history, [tag.commit for _, tag in newest.values()])
    touched = _touched(git, work_tree, lacking.values()) if image_files is not None else None

    def behind(name: str, commit: str) -> int | None:
        later = lacking.get(commit)
        if not later or touched is None or image_files is None:
            return None if later is None else len(later)
        files = image_files(project, project.classifier(name), tracked)
        return sum(files is None or _counts(touched[one], files, tracked) for one in later)

    return RepositoryState(
        project=project,
        work_tree=work_tree,
        newest={
            classifier: Release(
                tag=release, commit=tag.commit, behind=behind(classifier, tag.commit), annotated=tag.annotated
            )
            for classifier, (release, tag) in newest.items()
        },
        tag_names=frozenset(names),
        tracked=tracked,
        without_source=without_source,
        unwatched=git.unwatched(project.root),
        untracked={c.name: tuple(_untracked(c, project.root, tracked)) for c in project.classifiers},
        repository_name=name,
    )


def newest_releases(
    git: Git,
    top: Path,
    names: Iterable[str],
    classifiers: Iterable[str],
    *,
    counts: Callable[[GitTag], bool] = lambda _: True,
) -> dict[str, tuple[ReleaseTag, GitTag]]:
    """
    Find the release with the highest version of each of *classifiers* among the tags that *counts* accepts.

    Among tags with equal versions, an annotated tag wins, then the tag made last. Git reads the tags of the highest
    versions first, and the other tags of a classifier only if *counts* accepts none of those: with at most two git
    processes, however many tags exist.

    Args:
        names: The names of all tags, release tags and others.
    """
    groups = defaultdict[str, list[ReleaseTag]](list, {classifier: [] for classifier in classifiers})
    for release in _release_tags(names, frozenset(groups)):
        groups[release.classifier].append(release)
    highest = {classifier: max(tag.version for tag in group) for classifier, group in groups.items() if group}
    found = dict[str, tuple[ReleaseTag, GitTag]]()
    for first in (True, False):
        wanted = {
            str(release): release
            for classifier, version in highest.items()
            if classifier not in found
            for release in groups[classifier]
            if (release.version == version) is first
        }
        tags = git.tags(top, wanted) if wanted else ()
        ranked = sorted((tag for tag in tags if counts(tag)), key=lambda tag: _rank(wanted[tag.name], tag))
        found |= {wanted[tag.name].classifier: (wanted[tag.name], tag) for tag in ranked}
    return found


def _release_tags(names: Iterable[str], classifiers: frozenset[str]) -> Iterator[ReleaseTag]:
    for name in names:
        if name.rpartition("-mlserver-")[0].rpartition("-v")[0] in classifiers:
            try:
                yield ReleaseTag.parse(name)
            except InvalidValue:
                continue


def _rank(release: ReleaseTag, tag: GitTag) -> tuple[SemVer, bool, datetime]:
    return release.version, tag.annotated, tag.made


def lacking_commits(history: Iterable[Commit], releases: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """
    Find, for each commit in *releases*, the commits of HEAD's history that are not among its ancestors.

    One walk serves all *releases*: a bit mask at each commit of the history tells which of *releases* are or descend
    from that commit.

    Args:
        history: HEAD's history, children before parents.
        releases: Full commit ids, in any order.

    Returns:
        The full ids per release; a release outside of *history* is left out.
    """
    bits = {commit: 1 << place for place, commit in enumerate(dict.fromkeys(releases))}
    carried, seen, groups = dict[str, int](), set[str](), defaultdict[int, list[str]](list)
    for commit in history:
        mask = carried.pop(commit.id, 0) | bits.get(commit.id, 0)
        seen.add(commit.id)
        groups[mask].append(commit.id)
        for parent in commit.parents:
            carried[parent] = carried.get(parent, 0) | mask
    return {
        commit: tuple(one for mask, group in groups.items() if not mask & bit for one in group)
        for commit, bit in bits.items()
        if commit in seen
    }


def _touched(git: Git, work_tree: WorkTree, lacking: Iterable[Sequence[str]]) -> Mapping[str, frozenset[str]] | None:
    """The files that each lacking commit changed, relative to the project; None if there are too many."""
    commits = dict.fromkeys(commit for one in lacking for commit in one)
    if len(commits) > _MOST_COMMITS_READ:
        return None
    prefix = f"{work_tree.prefix}/" if work_tree.prefix else ""
    return {
        commit: frozenset(path.removeprefix(prefix) for path in paths if path.startswith(prefix))
        for commit, paths in (git.touched(work_tree.top, list(commits)) if commits else {}).items()
    }


def _counts(touched: frozenset[str], files: frozenset[str], tracked: frozenset[str]) -> bool:
    """A file that is gone counts too, because an image of the former release may contain it."""
    return any(path in files or path not in tracked for path in touched)


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
    bump: Bump | SemVer,
    tool: ToolBuild,
    *,
    message: str | None = None,
    recorded: Mapping[str, Digest] | None = None,
    against_build: Iterable[str] = (),
    allow_missing_tool: bool = False,
) -> TagPlan | TagRefused:
    """
    Plan the next release of *classifier*, or give every reason against it.

    Args:
        bump: The part of the version to raise, or the version itself.
        recorded: The digests of untracked artefacts that the user allowed to release (see :func:`untracked_digests`).
        against_build: The reasons for which the image of the release could not be built.
    """
    held = seen.newest.get(classifier)
    previous = None if held is None else held.tag.version
    version = bump if isinstance(bump, SemVer) else (previous or SemVer(0, 0, 0)).bumped(bump)
    tag = ReleaseTag(classifier, version, tool.short)
    reasons = [
        *_not_here(seen, classifier, held, given=isinstance(bump, SemVer)),
        *_obstacles(seen, classifier, tag, recorded=recorded or {}),
        *against_build,
    ]
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
        bump=None if isinstance(bump, SemVer) else bump,
        commit=seen.work_tree.head,
        message=_message(seen, tag, tool, message, recorded or {}),
        top=seen.work_tree.top,
    )


def annotation(seen: RepositoryState, tag: ReleaseTag, message: str | None) -> str:
    """Give the message of the annotated tag that replaces the lightweight *tag*."""
    tree = seen.work_tree
    return with_trailers(
        message or f"Release {tag.classifier} {tag.version}",
        [(REPOSITORY_NAME, seen.repository_name), (REPOSITORY_URL, None if tree is None else shared_url(tree.origin))],
    )


def _row(name: str, seen: RepositoryState, tool: ToolBuild) -> StatusRow:
    release, shallow = seen.newest.get(name), seen.work_tree is not None and seen.work_tree.shallow
    state = _state(release, tool, shallow=shallow)
    again = f"mlserver tag --classifier {name} <major|minor|patch>"
    action = {
        ReleaseState.READY: "-",
        ReleaseState.UNTOLD: "git fetch --unshallow --tags",
        ReleaseState.LIGHTWEIGHT: f"mlserver tag --annotate --classifier {name}",
    }.get(state, again)
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
        case Release(annotated=False):
            return ReleaseState.LIGHTWEIGHT
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


def unwatched_reason(paths: Sequence[str]) -> str:
    """Tell that changes of *paths* would go unnoticed, and how git watches them again."""
    return (
        f"git is told to ignore changes of {_listed(paths)} "
        "(run: git update-index --no-skip-worktree --no-assume-unchanged FILE)"
    )


def _obstacles(
    seen: RepositoryState, classifier: str, tag: ReleaseTag, *, recorded: Mapping[str, Digest]
) -> Iterator[str]:
    yield from repository_obstacles(seen.work_tree, seen.project.root)
    if seen.unwatched:
        yield unwatched_reason(seen.unwatched)
    if classifier not in seen.project.names:
        yield f"the project has no classifier {classifier!r}; its classifiers are {', '.join(seen.project.names)}"
    if classifier in seen.without_source:
        predictor = seen.project.classifier(classifier).predictor
        yield f"the predictor file of {predictor.module!r} is missing"
    if left := [path for path in seen.untracked.get(classifier, ()) if path not in recorded]:
        yield f"git does not track these artefacts: {_listed(left)} (--allow-untracked records their digests)"
    if str(tag) in seen.tag_names:
        yield f"the git tag {tag} already exists"
    else:
        same = [name for name in sorted(seen.tag_names) if name.startswith(f"{classifier}-v{tag.version}-mlserver-")]
        if same:
            yield f"version {tag.version} of {classifier} is already released as {same[0]} (--version chooses another)"


def _not_here(seen: RepositoryState, classifier: str, held: Release | None, *, given: bool) -> Iterator[str]:
    """Yield the reason why the next version cannot be computed from HEAD's history."""
    if given or (held is not None and held.behind is not None) or seen.work_tree is None:
        return
    if seen.work_tree.shallow:
        yield "the clone is shallow and may lack earlier releases (run: git fetch --unshallow --tags)"
    elif held is not None:
        yield (
            f"HEAD's history has no release of {classifier}, but another branch has {held.tag} "
            "(--version X.Y.Z chooses the version)"
        )


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
            (REPOSITORY_URL, None if tree is None else shared_url(tree.origin)),
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
