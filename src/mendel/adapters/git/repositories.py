"""Implement the ``Git`` port with the program ``git``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mendel.errors import AlreadyExists, InvalidProject, ReleaseNotFound, Unsupported
from mendel.projects import (
    Commit,
    Git,
    GitTag,
    HeadOfFile,
    TagDetails,
    WorkTree,
    read_trailers,
    without_credentials,
)

_POINTING = frozenset(
    f"GIT_{name}"
    for name in (
        *("ALTERNATE_OBJECT_DIRECTORIES", "CEILING_DIRECTORIES", "COMMON_DIR", "DIR", "GRAFT_FILE", "INDEX_FILE"),
        *("NAMESPACE", "OBJECT_DIRECTORY", "PREFIX", "REPLACE_REF_BASE", "SHALLOW_FILE", "WORK_TREE"),
    )
)
_MADE = re.compile(rb"^(?:tagger|committer) .*> ([0-9]+) [-+0-9]+$", re.MULTILINE)
_MESSAGE_FORMAT = "%(refname:lstrip=2)%00%(contents:signature)%00%(contents)%00"


class GitPrograms(Git):
    """
    Implements :class:`mendel.projects.Git` with the program ``git``.

    git reads the user's configuration, but no environment variable that would point it to another repository.

    Args:
        program: The git executable.
    """

    def __init__(self, program: str = "git") -> None:
        self._program = program

    def work_tree(self, path: Path) -> WorkTree | None:
        """Runs four git commands: repository root, state of the files, history depth, and remote URL."""
        place = self.run(path, "rev-parse", "--show-toplevel", "--is-shallow-repository", "--show-prefix", check=False)
        if place.returncode:
            _raise_if_refused(path, place)
            return None
        top, shallow, prefix = place.stdout.decode().split("\n")[:3]
        status = self.run(Path(top), "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=no").stdout
        lines = [line.decode("utf-8", "surrogateescape") for line in status.split(b"\0") if line]
        headers = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
        head, branch = headers.get("branch.oid", "(initial)"), headers.get("branch.head", "(detached)")
        return WorkTree(
            top=Path(top),
            prefix=prefix.rstrip("/"),
            head=None if head == "(initial)" else head,
            branch=None if branch == "(detached)" else branch,
            changed=tuple(sorted(_changed(iter(lines)))),
            origin=self._origin(Path(top)),
            shallow=shallow == "true",
        )

    def head_of(self, file: Path) -> HeadOfFile | None:
        asked = f"HEAD\nHEAD:./{file.name}\n".encode()
        told = self.run(file.parent, "cat-file", "--batch-check=%(objectname)", check=False, given=asked)
        if told.returncode:
            _raise_if_refused(file, told)
            return None
        commit, contained = told.stdout.decode().splitlines()
        if contained.endswith("missing"):
            return None
        return HeadOfFile(commit=commit, origin=self._origin(file.parent))

    def _origin(self, directory: Path) -> str | None:
        url = self.run(directory, "config", "--get", "remote.origin.url", check=False).stdout.decode().strip()
        return without_credentials(url) if url else None

    def tag_names(self, top: Path) -> tuple[str, ...]:
        listed = self.run(top, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags").stdout
        return tuple(os.fsdecode(name) for name in listed.split(b"\n") if name)

    def tags(self, top: Path, names: Iterable[str]) -> tuple[GitTag, ...]:
        """Runs ``git cat-file``, which reads only the named tags and their commits."""
        wanted = list(names)
        asked = "".join(f"refs/tags/{name}\nrefs/tags/{name}^{{commit}}\n" for name in wanted)
        told = self.run(top, "cat-file", "--batch", given=os.fsencode(asked)).stdout
        objects = _objects(told)
        pairs = zip(wanted, objects, objects, strict=True)
        return tuple(_git_tag(name, own, commit) for name, own, commit in pairs if own and commit)

    def tag(self, top: Path, name: str) -> TagDetails | None:
        found = next(iter(self.tags(top, (name,))), None)
        if found is None:
            return None
        message = self._message(top, name) if found.annotated else ""
        return TagDetails(
            name=name,
            commit=found.commit,
            made=found.made,
            annotated=found.annotated,
            message=message,
            trailers=read_trailers(message),
        )

    def _message(self, top: Path, name: str) -> str:
        listed = self.run(top, "for-each-ref", f"--format={_MESSAGE_FORMAT}", f"refs/tags/{name}").stdout
        fields = iter(listed.decode("utf-8", "surrogateescape").split("\0")[:-1])
        records = zip(fields, fields, fields, strict=True)  # the pattern also finds tags below refs/tags/NAME/
        return next(text.removesuffix(signed) for found, signed, text in records if found.lstrip("\n") == name)

    def commit_time(self, top: Path, commit: str) -> datetime:
        """Runs ``git rev-list``, because user configuration cannot change its output format."""
        arguments = ("rev-list", "--max-count=1", "--timestamp", "--end-of-options", f"{commit}^{{commit}}", "--")
        told = self.run(top, *arguments, check=False)
        if told.returncode:
            self.resolve(top, commit)
            raise _refused(top, told)
        return datetime.fromtimestamp(int(told.stdout.split()[0]), UTC)

    def ancestry(self, top: Path) -> tuple[Commit, ...]:
        listed = self.run(top, "rev-list", "--topo-order", "--parents", "HEAD", "--", check=False)
        commits = (line.split() for line in listed.stdout.decode().splitlines())
        return tuple(Commit(id=own, parents=tuple(parents)) for own, *parents in commits)

    def touched(self, top: Path, commits: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        options = ("--stdin", "--root", "-r", "-c", "-z", "--no-renames", "--name-only")
        told = self.run(top, "diff-tree", *options, given="".join(f"{one}\n" for one in commits).encode()).stdout
        found: dict[str, list[str]] = {commit: [] for commit in commits}
        current: list[str] = []
        for name in map(os.fsdecode, told.split(b"\0")):
            if name in found:
                current = found[name]
            elif name:
                current.append(name)
        return {commit: tuple(sorted(paths)) for commit, paths in found.items()}

    def tracked(self, directory: Path) -> tuple[str, ...]:
        listed = self.run(directory, "ls-files", "-z", check=False)
        if listed.returncode:
            _raise_if_refused(directory, listed)
        names = (os.fsdecode(name) for name in listed.stdout.split(b"\0") if name)
        return tuple(sorted(set(names)))

    def unwatched(self, directory: Path) -> tuple[str, ...]:
        """Runs ``git ls-files -v``, which marks ordinary files with ``H``."""
        listed = self.run(directory, "ls-files", "-v", "-z").stdout
        marked = (os.fsdecode(line).split(" ", 1) for line in listed.split(b"\0") if line)
        ignored = {name for mark, name in marked if mark == "S" or mark.islower()}
        return tuple(sorted(name for name in ignored if os.path.lexists(directory / name)))

    def create_tag(self, top: Path, name: str, *, commit: str, message: str) -> None:
        arguments = ("tag", "--annotate", "--cleanup=verbatim", "--file=-", name, commit)
        made = self.run(top, *arguments, check=False, given=message.encode())
        if made.returncode and b"already exists" in made.stderr:
            raise AlreadyExists(f"The git tag {name} already exists.", remedy="Run mendel tag to see the newest tag.")
        if made.returncode:
            raise _refused(top, made)

    def annotate_tag(self, top: Path, name: str, *, message: str) -> None:
        found = self.tag(top, name)
        if found is None:
            raise ReleaseNotFound(f"The git repository {top} has no tag {name}.", remedy="List the tags: git tag")
        if found.annotated:
            raise AlreadyExists(f"The git tag {name} is annotated already.")
        arguments = ("tag", "--annotate", "--force", "--cleanup=verbatim", "--file=-", name, found.commit)
        self.run(top, *arguments, given=message.encode())

    def resolve(self, repository: Path, revision: str) -> str:
        """If a tag and a branch have the same name, the tag is used."""
        for candidate in (f"refs/tags/{revision}^{{commit}}", f"{revision}^{{commit}}"):
            found = self.run(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", candidate, check=False)
            if not found.returncode:
                return found.stdout.decode().strip()
        if found.stderr:
            raise _refused(repository, found)
        raise ReleaseNotFound(
            f"The git repository {repository} has neither a tag nor a commit {revision!r}.",
            remedy="Fetch the tags with 'git fetch --tags', or list the known releases with 'mendel tag'.",
        )

    def export(self, repository: Path, commit: str, into: Path) -> None:
        """Uses a temporary git index, so that filters and line endings are applied as in a checkout."""
        import tempfile  # noqa: PLC0415 - commands that export nothing start without it

        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mendel-export-") as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            read = self.run(repository, "read-tree", "--no-sparse-checkout", commit, check=False, environment=index)
            if read.returncode:
                self.resolve(repository, commit)
                raise _refused(repository, read)
            elsewhere = {**index, "GIT_WORK_TREE": str(into.absolute())}
            self.run(repository, "checkout-index", "--all", "--force", environment=elsewhere)

    def run(
        self,
        directory: Path,
        *arguments: str,
        check: bool = True,
        given: bytes = b"",
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run git in *directory*.

        Args:
            check: Whether an exit code other than 0 raises InvalidProject.
            given: The bytes for standard input.

        Raises:
            Unsupported: git is not installed.
        """
        command = [self._program, "-C", str(directory), *arguments]
        variables = {**_clean_environment(), **(environment or {})}
        try:
            done = subprocess.run(command, input=given, capture_output=True, check=False, env=variables)  # noqa: S603 - a list of arguments, never a shell
        except FileNotFoundError as error:
            raise Unsupported("git is not installed.", remedy="Install git and try again.") from error
        if check and done.returncode:
            raise _refused(directory, done)
        return done


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _POINTING}
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def _raise_if_refused(path: Path, done: subprocess.CompletedProcess[bytes]) -> None:
    if b"not a git repository" not in done.stderr and b"must be run in a work tree" not in done.stderr:
        raise _refused(path, done)


def _refused(path: Path, done: subprocess.CompletedProcess[bytes]) -> InvalidProject:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    sentence = lines[0].strip() if lines else f"git ended with exit code {done.returncode}"
    remedy = "Run: git config --global --add safe.directory PATH" if "dubious ownership" in sentence else ""
    return InvalidProject(f"git reports: {sentence}.", path=str(path), remedy=remedy)


def _changed(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        match line[:1]:
            case "1":
                yield line.split(" ", 8)[8]
            case "2":
                yield line.split(" ", 9)[9]
                next(lines, None)  # skip the file name before the rename
            case "u":
                yield line.split(" ", 10)[10]


@dataclass(frozen=True, slots=True)
class _Object:
    id: str
    kind: str
    content: bytes


def _objects(told: bytes) -> Iterator[_Object | None]:
    """Yield each object that ``git cat-file --batch`` printed; None for a missing object."""
    place = 0
    while place < len(told):
        end = told.index(b"\n", place)
        words = told[place:end].decode("utf-8", "surrogateescape").rsplit(" ", 2)
        if words[-1] == "missing" or not words[-1].isdigit():
            yield None
            place = end + 1
            continue
        size = int(words[2])
        yield _Object(words[0], words[1], told[end + 1 : end + 1 + size])
        place = end + size + 2


def _git_tag(name: str, own: _Object, commit: _Object) -> GitTag:
    annotated = own.kind == "tag"
    found = _MADE.search(own.content.partition(b"\n\n")[0])
    when = datetime.fromtimestamp(int(found.group(1)) if found else 0, UTC)
    return GitTag(name=name, commit=commit.id, made=when, annotated=annotated)
