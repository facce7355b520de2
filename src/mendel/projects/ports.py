"""What the projects room needs of git."""

from __future__ import annotations

from collections.abc import Mapping
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
    A checkout as it stands.

    Attributes:
        top: Its root.
        prefix: Where the asked path lies below the root, posix, empty at the root itself.
        head: The full commit, or None before the first.
        branch: None on a detached HEAD.
        changed: Tracked files that are changed or staged, relative to the root.
        origin: The URL of the remote ``origin`` without credentials, or None.
        shallow: Its history is cut off, so that distances cannot be told.
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
    """A tag, the full commit it leads to, and when it was made; a lightweight one is not ``annotated``."""

    name: str
    commit: str
    made: datetime
    annotated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TagDetails:
    """
    One tag with what stands in it; what a rebuild asks instead of the machine.

    Attributes:
        commit: The full commit it leads to.
        made: The tagger's date; of a lightweight tag the commit's.
        message: Without a signature; empty for a lightweight tag.
        trailers: The values of each trailer in the message's last paragraph, in their order.
    """

    name: str
    commit: str
    made: datetime
    annotated: bool
    message: str = ""
    trailers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def repository_name(self) -> str | None:
        """The repository as it was called when the tag was made."""
        return self._first(REPOSITORY_NAME)

    @property
    def repository_branch(self) -> str | None:
        """The branch it was made on; None on a detached HEAD."""
        return self._first(REPOSITORY_BRANCH)

    @property
    def repository_url(self) -> str | None:
        """The origin without credentials; None without a remote."""
        return self._first(REPOSITORY_URL)

    @property
    def tool_version(self) -> str | None:
        """The version of the tool that made the tag."""
        return self._first(TOOL_VERSION)

    @property
    def tool_url(self) -> str | None:
        """Where that tool's repository is."""
        return self._first(TOOL_URL)

    @property
    def untracked(self) -> tuple[tuple[str, str], ...]:
        """The artefacts that git did not track: path relative to the project, and digest ``sha256:...``."""
        return tuple(artifact_of(value) for value in self.trailers.get(UNTRACKED_ARTIFACT, ()))

    def _first(self, name: str) -> str | None:
        return next(iter(self.trailers.get(name, ())), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit and its parents, by their full ids."""

    id: str
    parents: tuple[str, ...]


class Git(Protocol):
    """
    Reads repositories, makes tags, exports commits.

    Each method costs a fixed, small number of processes, however many tags or commits there are. Nothing is cached:
    every call sees the repository as it is. Safe to share between threads.

    Raises:
        Unsupported: From every method: git is not installed.
        InvalidProject: From every method: git refuses the repository; the message is git's.
    """

    def work_tree(self, path: Path) -> WorkTree | None:
        """The checkout around the directory *path*, linked worktrees included; None where there is none."""

    def tags(self, top: Path) -> tuple[GitTag, ...]:
        """Every tag that leads to a commit, from one process."""

    def tag(self, top: Path, name: str) -> TagDetails | None:
        """The tag *name* with its message, from one process; None where no tag of that name leads to a commit."""

    def commit_time(self, top: Path, commit: str) -> datetime:
        """
        When *commit* was committed, in UTC: the time that everything built from it carries.

        Raises:
            ReleaseNotFound: There is no such commit.
        """

    def ancestry(self, top: Path) -> tuple[Commit, ...]:
        """Every commit reachable from HEAD, children before their parents, from one process; empty before the first."""

    def tracked(self, directory: Path) -> tuple[str, ...]:
        """The tracked files below *directory*, relative to it, sorted; empty outside of a repository."""

    def create_tag(self, top: Path, name: str, *, commit: str, message: str) -> None:
        """
        Make the annotated tag *name* on *commit*, with *message* as it stands.

        Raises:
            AlreadyExists: There is a tag of that name.
        """

    def resolve(self, repository: Path, revision: str) -> str:
        """
        The full commit that a tag or commit names.

        Raises:
            ReleaseNotFound: Neither a tag nor a commit of *repository*.
        """

    def export(self, repository: Path, commit: str, into: Path) -> None:
        """Write the files of *commit*, as a checkout has them, into *into*; the repository is untouched."""
