"""The ``Git`` port in memory: directories on disk are the checkouts, commits and tags are values."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mendel.errors import AlreadyExists, InvalidProject, ReleaseNotFound
from mendel.projects import Commit, Git, GitTag, HeadOfFile, TagDetails, WorkTree, read_trailers, without_credentials

_ABBREVIATED = re.compile(r"[0-9a-f]{4,40}")
_REFUSED_NAME = re.compile(r"^[-/.]|[\x00-\x20~^:?*\[\\\x7f]|\.\.|@\{|//|/\.|\.lock(/|$)|[/.]$|^$")
"""What ``git check-ref-format`` refuses."""


@dataclass(frozen=True, slots=True)
class _File:
    """A tracked file; *mode* is 0o644, 0o755, or 0o120000 for a link, whose content is the link target."""

    mode: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commit:
    id: str
    parents: tuple[str, ...]
    at: datetime
    files: dict[str, _File]


@dataclass(slots=True, kw_only=True)
class MemoryRepository:
    """
    One repository, with the commands that a user gives to git. The files of the checkout are in the directory ``top``.

    Attributes:
        top: The root of the checkout.
        branch: The branch that HEAD is on; None when detached.
        origin: The URL of the remote ``origin``.
    """

    top: Path
    branch: str | None = "main"
    origin: str | None = None
    head: str | None = None
    _branches: dict[str, str] = field(default_factory=dict)
    _commits: dict[str, _Commit] = field(default_factory=dict)
    _tags: dict[str, TagDetails] = field(default_factory=dict)
    _index: dict[str, _File] = field(default_factory=dict)
    _unwatched: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, *paths: str) -> None:
        """Stage the files at *paths* (posix, relative to the root); a file that is gone is unstaged."""
        with self._lock:
            for path in paths:
                found = _read(self.top / path)
                if found is None:
                    self._index.pop(path, None)
                else:
                    self._index[path] = found

    def commit(self, *, at: datetime, merge: Sequence[str] = ()) -> str:
        """Commit the staged files and move the branch; *merge* are further parents. Gives the new commit's id."""
        with self._lock:
            parents = (*([self.head] if self.head else []), *merge)
            told = repr((parents, at, sorted(self._index.items())))
            made = _Commit(
                id=hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest(),
                parents=parents,
                at=_whole_seconds(at),
                files=dict(self._index),
            )
            self._commits[made.id] = made
            self.head = made.id
            if self.branch is not None:
                self._branches[self.branch] = made.id
            return made.id

    def checkout(self, revision: str) -> None:
        """Move HEAD to a branch, or detached to a commit; the files are left alone."""
        with self._lock:
            self.branch = revision if revision in self._branches else None
            self.head = self.resolve(revision)
            self._index = dict(self._commits[self.head].files)

    def start_branch(self, name: str) -> None:
        """Begin the branch *name* at HEAD and move to it."""
        with self._lock:
            self.branch = name
            if self.head is not None:
                self._branches[name] = self.head

    def tag(self, name: str, *, commit: str, at: datetime, message: str | None = None) -> None:
        """Create a tag; a tag without a *message* is lightweight."""
        with self._lock:
            if _REFUSED_NAME.search(name) or commit not in self._commits:
                what = (
                    f"{commit} is not a commit" if commit not in self._commits else f"{name!r} is not a valid tag name"
                )
                raise InvalidProject(f"git reports: {what}.", path=str(self.top))
            if name in self._tags:
                raise AlreadyExists(
                    f"The git tag {name} already exists.", remedy=("Run mendel tag to see the newest tag.")
                )
            annotated = message is not None
            self._tags[name] = TagDetails(
                name=name,
                commit=commit,
                made=_whole_seconds(at) if annotated else self._commits[commit].at,
                annotated=annotated,
                message=message or "",
                trailers=read_trailers(message or ""),
            )

    def resolve(self, revision: str) -> str:
        """The id of the commit that *revision* names; see :meth:`mendel.projects.Git.resolve`."""
        with self._lock:
            if revision in self._tags:
                return self._tags[revision].commit
            if revision in self._branches:
                return self._branches[revision]
            if revision == "HEAD" and self.head is not None:
                return self.head
            found = [one for one in self._commits if one.startswith(revision)] if _is_id(revision) else []
            if len(found) == 1:
                return found[0]
        raise ReleaseNotFound(
            f"The git repository {self.top} has neither a tag nor a commit {revision!r}.",
            remedy="Fetch the tags with 'git fetch --tags', or list the known releases with 'mendel tag'.",
        )

    def annotate(self, name: str, *, at: datetime, message: str) -> None:
        """Replace a lightweight tag by an annotated one; see :meth:`mendel.projects.Git.annotate_tag`."""
        with self._lock:
            found = self._tags.get(name)
            if found is None:
                raise ReleaseNotFound(
                    f"The git repository {self.top} has no tag {name}.", remedy="List the tags: git tag"
                )
            if found.annotated:
                raise AlreadyExists(f"The git tag {name} is annotated already.")
            del self._tags[name]
            self.tag(name, commit=found.commit, at=at, message=message)

    def touched(self, commit: str) -> tuple[str, ...]:
        """The files in which *commit* differs from all of its parents, or all files of a first commit."""
        with self._lock:
            own = self._commits[commit]
            before = [self._commits[parent].files for parent in own.parents] or [{}]
            paths = sorted({*own.files, *(path for files in before for path in files)})
            return tuple(p for p in paths if all(own.files.get(p) != files.get(p) for files in before))

    def details(self) -> tuple[TagDetails, ...]:
        """Every tag, sorted by name."""
        with self._lock:
            return tuple(sorted(self._tags.values(), key=lambda tag: tag.name.encode()))

    def unwatch(self, path: str) -> None:
        """Ignore changes of the file at *path*."""
        with self._lock:
            self._unwatched.add(path)

    def unwatched(self) -> tuple[str, ...]:
        """Every tracked file that exists and whose changes are ignored."""
        with self._lock:
            return tuple(sorted(path for path in self._unwatched & self._index.keys() if _read(self.top / path)))

    def staged(self) -> tuple[str, ...]:
        """Every tracked file."""
        with self._lock:
            return tuple(sorted(self._index))

    def changed(self) -> tuple[str, ...]:
        """Every tracked file whose content on disk or in the index differs from HEAD."""
        with self._lock:
            committed = self._commits[self.head].files if self.head else {}
            return tuple(
                path
                for path in sorted((self._index.keys() | committed.keys()) - self._unwatched)
                if not (committed.get(path) == self._index.get(path) == _read(self.top / path))
            )

    def found(self, commit: str) -> _Commit:
        """
        The commit with this full id.

        Raises:
            ReleaseNotFound: No commit has this id.
        """
        with self._lock:
            return self._commits[self.resolve(commit)]

    def ancestry(self) -> Iterator[Commit]:
        """Commits reachable from HEAD, children before their parents."""
        with self._lock:
            reachable = dict.fromkeys(self._reachable(self.head)) if self.head else {}
            waiting = {one: sum(one in self._commits[child].parents for child in reachable) for one in reachable}
            ready = [one for one, children in waiting.items() if not children]
            while ready:
                found = self._commits[ready.pop()]
                yield Commit(id=found.id, parents=found.parents)
                for parent in found.parents:
                    waiting[parent] -= 1
                    if not waiting[parent]:
                        ready.append(parent)

    def _reachable(self, head: str) -> Iterator[str]:
        waiting, seen = [head], set[str]()
        while waiting:
            commit = waiting.pop()
            if commit not in seen:
                seen.add(commit)
                yield commit
                waiting += self._commits[commit].parents


class MemoryGit(Git):
    """
    Implements :class:`mendel.projects.Git` with repositories that live as long as this object.

    Checkouts are directories on disk. A revision names a tag before it names a branch.

    Args:
        clock: Dates the tags that :meth:`create_tag` makes.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._repositories: dict[Path, MemoryRepository] = {}

    def init(self, top: Path, *, origin: str | None = None) -> MemoryRepository:
        """Begin a repository in the directory *top*."""
        made = MemoryRepository(top=top.resolve(), origin=origin)
        self._repositories[made.top] = made
        return made

    def work_tree(self, path: Path) -> WorkTree | None:
        found = self._around(path)
        if found is None:
            return None
        below = path.resolve().relative_to(found.top).as_posix()
        return WorkTree(
            top=found.top,
            prefix="" if below == "." else below,
            head=found.head,
            branch=found.branch,
            changed=found.changed(),
            origin=without_credentials(found.origin) if found.origin else None,
        )

    def head_of(self, file: Path) -> HeadOfFile | None:
        found = self._around(file.parent)
        if found is None or found.head is None:
            return None
        if file.resolve().relative_to(found.top).as_posix() not in found.found(found.head).files:
            return None
        return HeadOfFile(commit=found.head, origin=without_credentials(found.origin) if found.origin else None)

    def tag_names(self, top: Path) -> tuple[str, ...]:
        return tuple(tag.name for tag in self._at(top).details())

    def tags(self, top: Path, names: Iterable[str]) -> tuple[GitTag, ...]:
        found = {tag.name: tag for tag in self._at(top).details()}
        return tuple(
            GitTag(name=tag.name, commit=tag.commit, made=tag.made, annotated=tag.annotated)
            for tag in (found[name] for name in names if name in found)
        )

    def tag(self, top: Path, name: str) -> TagDetails | None:
        return next((tag for tag in self._at(top).details() if tag.name == name), None)

    def commit_time(self, top: Path, commit: str) -> datetime:
        return self._at(top).found(commit).at

    def ancestry(self, top: Path) -> tuple[Commit, ...]:
        return tuple(self._at(top).ancestry())

    def touched(self, top: Path, commits: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        repository = self._at(top)
        return {commit: repository.touched(commit) for commit in commits}

    def tracked(self, directory: Path) -> tuple[str, ...]:
        found = self._around(directory)
        return () if found is None else _below(directory, found.top, found.staged())

    def unwatched(self, directory: Path) -> tuple[str, ...]:
        found = self._at(directory)
        return _below(directory, found.top, found.unwatched())

    def create_tag(self, top: Path, name: str, *, commit: str, message: str) -> None:
        self._at(top).tag(name, commit=commit, at=self._clock(), message=message)

    def annotate_tag(self, top: Path, name: str, *, message: str) -> None:
        self._at(top).annotate(name, at=self._clock(), message=message)

    def resolve(self, repository: Path, revision: str) -> str:
        return self._at(repository).resolve(revision)

    def export(self, repository: Path, commit: str, into: Path) -> None:
        files = self._at(repository).found(commit).files
        into.mkdir(parents=True, exist_ok=True)
        for path, file in files.items():
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if stat.S_ISLNK(file.mode):
                target.symlink_to(os.fsdecode(file.content))
            else:
                target.write_bytes(file.content)
                target.chmod(file.mode)

    def _at(self, directory: Path) -> MemoryRepository:
        found = self._around(directory)
        if found is None:
            raise InvalidProject(f"git reports: {directory} is not a git repository.", path=str(directory))
        return found

    def _around(self, directory: Path) -> MemoryRepository | None:
        if not directory.is_dir():
            raise InvalidProject(f"git reports: {directory} is not a directory.", path=str(directory))
        place = directory.resolve()
        return next((self._repositories[one] for one in (place, *place.parents) if one in self._repositories), None)


def _below(directory: Path, top: Path, paths: Iterable[str]) -> tuple[str, ...]:
    prefix = directory.resolve().relative_to(top).as_posix()
    start = "" if prefix == "." else f"{prefix}/"
    return tuple(path.removeprefix(start) for path in paths if path.startswith(start))


def _read(path: Path) -> _File | None:
    if path.is_symlink():
        return _File(0o120000, os.fsencode(path.readlink()))
    if not path.is_file():
        return None
    return _File(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644, path.read_bytes())


def _is_id(revision: str) -> bool:
    return _ABBREVIATED.fullmatch(revision) is not None


def _whole_seconds(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)
