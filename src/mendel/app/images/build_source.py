"""The source of an image: an exported release, or the working tree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mendel.errors import Conflict, InvalidInput, InvalidValue, ReleaseNotFound
from mendel.projects import (
    Classifier,
    Git,
    Project,
    TagDetails,
    WorkTree,
    load_project,
    newest_releases,
    project_path,
    repository_name,
    shared_url,
    unwatched_reason,
)
from mendel.values import EPOCH, ReleaseTag
from mendel.values.directory_trees import file_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts:
    """
    The facts of a release, read only from its tag and commit.

    Attributes:
        newest: False if the repository has an annotated tag of a higher version of the classifier.
    """

    tag: ReleaseTag
    details: TagDetails
    newest: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    A tree to build from.

    Attributes:
        project: The project, read from this tree.
        tracked: The files of the project that git tracks; None for an exported release or without a repository.
        release: None for a working tree that is not exactly a release.
        commit: The full commit of the tree; None outside of a repository or before the first commit.
        created: The commit's time; the epoch if the tree has no commit.
        repository: The name of the repository, taken from the release tag if the source is a release.
        url: The URL of the origin, without credentials; None for a path of this machine.
        changed: The working tree differs from its commit.
        why_untagged: Why the working tree is not a release; empty for a release.
    """

    project: Project
    classifier: Classifier
    tracked: frozenset[str] | None
    release: ReleaseFacts | None
    commit: str | None
    created: datetime
    repository: str
    branch: str | None
    url: str | None
    changed: bool = False
    why_untagged: str = ""


def release_of(text: str) -> ReleaseTag | None:
    """Parse *text* as a release tag; None if *text* is the name of a classifier."""
    try:
        return ReleaseTag.parse(text)
    except InvalidValue:
        return None


@contextmanager
def exported(tag: ReleaseTag, project: Project, git: Git) -> Iterator[Source]:
    """
    Export a release to a temporary directory, which is deleted when the block ends; the working tree is untouched.

    Raises:
        ReleaseNotFound: The tag does not exist, or the project at its commit lacks the classifier.
        InvalidInput: The tag is not annotated, so the tag does not record the inputs of the release.
        Conflict: An untracked artefact whose digest the tag recorded is missing or has changed.
    """
    tree = git.work_tree(project.root)
    details = None if tree is None else git.tag(tree.top, str(tag))
    if tree is None or details is None:
        raise ReleaseNotFound(
            f"The git repository of {project.root} has no release tag {tag}.",
            remedy="Fetch the tags with 'git fetch --tags', or list the releases with 'mendel tag'.",
        )
    if not details.annotated:
        raise InvalidInput(
            f"The tag {tag} is not annotated, so the tag does not record the inputs of the release.",
            remedy=f"Annotate it: mendel tag --annotate --classifier {tag.classifier}, or make a new release.",
        )
    with tempfile.TemporaryDirectory(prefix="mendel-build-") as scratch:
        git.export(tree.top, details.commit, Path(scratch))
        there = load_project(Path(scratch) / tree.prefix)
        if tag.classifier not in there.names:
            raise ReleaseNotFound(
                f"The project at {tag} has no classifier {tag.classifier!r}.",
                remedy=f"Choose one of its classifiers: {', '.join(there.names)}.",
            )
        _bring_untracked(details, project.root, there.root)
        newest = _is_newest(tag, tree.top, git)
        yield _release_source(
            there,
            ReleaseFacts(tag=tag, details=details, newest=newest),
            git.commit_time(tree.top, details.commit),
            tracked=None,
        )


def working_tree(project: Project, classifier: Classifier, git: Git) -> Source:
    """Read the working tree: the release at HEAD if the tree is clean, else an untagged source with the reason."""
    tree = git.work_tree(project.root)
    if tree is None or tree.head is None:
        why = "the project is in no git repository" if tree is None else "the repository has no commit yet"
        return Source(
            project=project,
            classifier=classifier,
            tracked=None,
            release=None,
            commit=None,
            created=EPOCH,
            repository=repository_name(project, None),
            branch=None,
            url=None,
            why_untagged=why,
        )
    tracked = frozenset(git.tracked(project.root))
    found = _release_at_head(tree, classifier.name, git)
    unwatched = git.unwatched(project.root)
    if found is not None and not tree.changed and not unwatched:
        return _release_source(project, found, git.commit_time(tree.top, tree.head), tracked=tracked)
    return Source(
        project=project,
        classifier=classifier,
        tracked=tracked,
        release=None,
        commit=tree.head,
        created=git.commit_time(tree.top, tree.head),
        repository=repository_name(project, tree.origin),
        branch=tree.branch,
        url=shared_url(tree.origin),
        changed=bool(tree.changed or unwatched),
        why_untagged=_why_untagged(tree, unwatched),
    )


def _why_untagged(tree: WorkTree, unwatched: tuple[str, ...]) -> str:
    if tree.changed:
        return f"changed files: {', '.join(tree.changed[:5])}"
    return unwatched_reason(unwatched) if unwatched else "HEAD has no release tag of the classifier"


def held_to_its_commit(source: Source, untracked: tuple[str, ...]) -> Source:
    """
    Return *source*; if the image would contain *untracked* files that the commit lacks, mark it as not a release.

    An untracked file whose digest the release tag recorded belongs to the release.
    """
    if source.release is None:
        return source
    recorded = {path for path, _ in source.release.details.untracked}
    strange = [name for name in untracked if name not in recorded]
    if not strange:
        return source
    why = f"git does not track {', '.join(strange[:5])}; build the release with --classifier {source.release.tag}"
    return replace(source, release=None, changed=True, why_untagged=why)


def _release_source(
    project: Project, release: ReleaseFacts, created: datetime, *, tracked: frozenset[str] | None
) -> Source:
    details = release.details
    return Source(
        project=project,
        classifier=project.classifier(release.tag.classifier),
        tracked=tracked,
        release=release,
        commit=details.commit,
        created=created.astimezone(UTC),
        repository=details.repository_name or repository_name(project, details.repository_url),
        branch=details.repository_branch,
        url=details.repository_url,
    )


def _release_at_head(tree: WorkTree, classifier: str, git: Git) -> ReleaseFacts | None:
    """The highest of the classifier's annotated releases on HEAD."""
    names = git.tag_names(tree.top)
    found = newest_releases(
        git, tree.top, names, [classifier], counts=lambda tag: tag.annotated and tag.commit == tree.head
    )
    if classifier not in found:
        return None
    release, _ = found[classifier]
    details = git.tag(tree.top, str(release))
    return (
        None
        if details is None
        else ReleaseFacts(tag=release, details=details, newest=_is_newest(release, tree.top, git))
    )


def _is_newest(release: ReleaseTag, top: Path, git: Git) -> bool:
    newest = newest_releases(git, top, git.tag_names(top), [release.classifier], counts=lambda tag: tag.annotated)
    return release.classifier not in newest or newest[release.classifier][0].version <= release.version


def _bring_untracked(details: TagDetails, origin: Path, into: Path) -> None:
    """Copy the untracked files that the tag recorded from the working tree; refuse a missing or changed file."""
    for name, digest in details.untracked:
        if project_path(name) is None:
            raise Conflict(f"The tag {details.name} recorded {name!r}, which is not a path inside the project.")
        here = origin / name
        if not here.is_file() or file_digest(here) != digest:
            raise Conflict(
                (
                    f"The tag {details.name} recorded the untracked file {name} ({digest}), which is "
                    "missing or has changed."
                ),
                remedy=f"Restore {name} with that digest, or make a new release with 'mendel tag'.",
            )
        target = into / name
        if not target.resolve().is_relative_to(into.resolve()):
            raise Conflict(f"The tag {details.name} recorded {name}, which a symbolic link leads out of the project.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here, target)
