"""What the projects room needs of git."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


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
