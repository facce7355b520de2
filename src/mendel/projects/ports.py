"""The port to git, and the values that it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mendel.projects.tag_trailers import (
    REPOSITORY_BRANCH,
    REPOSITORY_NAME,
    REPOSITORY_URL,
    TOOL_URL,
    TOOL_VERSION,
    UNTRACKED_ARTIFACT,
    artifact_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkTree:
    """
    The state of a git checkout.

    Attributes:
        top: The root directory of the checkout.
        prefix: The POSIX path, below the root, of the directory that was given; empty for the root.
        head: The full id of HEAD's commit; None before the first commit.
        branch: The current branch; None on a detached HEAD.
        changed: Tracked files that are changed or staged, relative to the root.
        origin: The URL of the remote ``origin`` without credentials; None without such a remote.
        shallow: True for a shallow clone, whose history is incomplete.
    """

    top: Path
    prefix: str = ""
    head: str | None
    branch: str | None
    changed: tuple[str, ...] = ()
    origin: str | None = None
    shallow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTag:
    """A git tag, the full id of its commit, and when it was made; ``annotated`` is False for a lightweight tag."""

    name: str
    commit: str
    made: datetime
    annotated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TagDetails:
    """
    A git tag with its message and trailers, from which a rebuild takes names that may since have changed.

    Attributes:
        commit: The full id of the tagged commit.
        made: The tagger's date; for a lightweight tag, the commit's date.
        message: The tag's message without its signature; empty for a lightweight tag.
        trailers: The values of each trailer in the message's last paragraph, in order.
    """

    name: str
    commit: str
    made: datetime
    annotated: bool
    message: str = ""
    trailers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def repository_name(self) -> str | None:
        """The repository's name when the tag was made; None when the tag does not record it."""
        return self._first(REPOSITORY_NAME)

    @property
    def repository_branch(self) -> str | None:
        """The branch that the tag was made on; None on a detached HEAD."""
        return self._first(REPOSITORY_BRANCH)

    @property
    def repository_url(self) -> str | None:
        """The URL of the remote ``origin`` without credentials; None without such a remote."""
        return self._first(REPOSITORY_URL)

    @property
    def tool_version(self) -> str | None:
        """The version of the tool that made the tag."""
        return self._first(TOOL_VERSION)

    @property
    def tool_url(self) -> str | None:
        """The URL of the repository of the tool that made the tag."""
        return self._first(TOOL_URL)

    @property
    def untracked(self) -> tuple[tuple[str, str], ...]:
        """The (path, digest) of each recorded artefact that git did not track; paths are relative to the project."""
        return tuple(artifact_of(value) for value in self.trailers.get(UNTRACKED_ARTIFACT, ()))

    def _first(self, name: str) -> str | None:
        return next(iter(self.trailers.get(name, ())), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The full ids of a commit and of its parents."""

    id: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOfFile:
    """The full id of HEAD's commit, which contains a file, and the URL of ``origin`` without credentials."""

    commit: str
    origin: str | None


class Git(Protocol):
    """
    Reads repositories, creates tags, exports commits.

    Each method starts a fixed, small number of git processes, however many tags or commits exist. Nothing is cached:
    every call reads the current state of the repository. Times are aware UTC with a precision of one second; paths in
    answers are posix. Threads may share one instance, and several processes may work on one repository.

    Raises:
        Unsupported: Every method raises it when git is not installed.
        InvalidProject: Every method raises it when git refuses the repository, or the directory does not exist; the
            message is git's.
    """

    def work_tree(self, path: Path) -> WorkTree | None:
        """
        Give the checkout that contains the directory *path*, linked worktrees included; None outside a checkout and in
        a bare repository. The changed files are sorted.
        """

    def head_of(self, file: Path) -> HeadOfFile | None:
        """Give HEAD of the checkout whose commit contains *file*; None if no commit at HEAD contains it."""

    def tag_names(self, top: Path) -> tuple[str, ...]:
        """Give the names of all tags, sorted, with one git process that reads no tag."""

    def tags(self, top: Path, names: Iterable[str]) -> tuple[GitTag, ...]:
        """Give the tags *names* that exist and point to a commit, in the order of *names*, with one git process."""

    def tag(self, top: Path, name: str) -> TagDetails | None:
        """Give the tag *name* with its message, with one git process; None when no such tag points to a commit."""

    def commit_time(self, top: Path, commit: str) -> datetime:
        """
        Give the commit time of *commit*, which images built from the commit use as their time.

        Raises:
            ReleaseNotFound: The repository has no such commit.
        """

    def ancestry(self, top: Path) -> tuple[Commit, ...]:
        """Give every commit reachable from HEAD, children before parents; empty before the first commit."""

    def touched(self, top: Path, commits: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """
        Give, for each of *commits*, the files that it changed, added or removed, with one git process.

        Paths are relative to *top* and sorted; a renamed file counts under both names. A merge changed the files that
        differ from all of its parents.

        Args:
            commits: Full ids from :meth:`ancestry`.
        """

    def tracked(self, directory: Path) -> tuple[str, ...]:
        """
        List the tracked files below *directory*, staged ones included, relative to it and sorted; empty outside of a
        repository.
        """

    def unwatched(self, directory: Path) -> tuple[str, ...]:
        """
        List the tracked files below *directory* that exist and whose changes git is told to ignore
        (``git update-index --skip-worktree`` or ``--assume-unchanged``), relative to it and sorted.
        """

    def create_tag(self, top: Path, name: str, *, commit: str, message: str) -> None:
        """
        Create the annotated tag *name* on *commit*, with *message* unchanged; the tag is whole or absent.

        Of two callers that create one tag at the same time, the second gets AlreadyExists.

        Raises:
            AlreadyExists: The repository has a tag of this name; that tag is unchanged.
            InvalidProject: Git does not accept the name, or the repository has no such commit.
        """

    def annotate_tag(self, top: Path, name: str, *, message: str) -> None:
        """
        Replace the lightweight tag *name* by an annotated tag on the same commit, with *message* unchanged.

        Raises:
            AlreadyExists: The tag is annotated already; it is unchanged.
            ReleaseNotFound: The repository has no tag of this name that points to a commit.
        """

    def resolve(self, repository: Path, revision: str) -> str:
        """
        Give the full commit id of *revision*: a tag, a full or shortened commit id, a branch, or ``HEAD``.

        A tag wins over a branch of the same name.

        Raises:
            ReleaseNotFound: *revision* names no commit of *repository*.
        """

    def export(self, repository: Path, commit: str, into: Path) -> None:
        """
        Write the files of *commit*, as a checkout has them, into the directory *into*, which is made if it is missing.

        Files of the same name are replaced, other files stay. The repository, which may be bare, is unchanged.

        Raises:
            ReleaseNotFound: The repository has no such commit.
        """
