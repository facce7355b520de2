"""Read a project's files for an image without leaving the project and without including secrets."""
# ruff: noqa: PTH112, PTH113, PTH114, PTH116, PTH118, PTH120, PTH123, PTH208 - Path raises in unreadable directories

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mendel.errors import InvalidValue
from mendel.images.entities import SourceFile
from mendel.images.excluded_files import SCANNED_BYTES, is_cache, public_by_content, secret_by_content, secret_by_name
from mendel.images.path_patterns import Pattern
from mendel.values import Digest

MOST_FILES = 100_000
"""The largest number of files in an image; the limit also stops links that multiply directories."""

_WHITEOUT = ".wh."

HashFile = Callable[[Path], Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """
    A path to visit.

    Attributes:
        name: The path in the project, with links not resolved.
        real: The resolved path, if known from the parent; None when it must be resolved.
        crossed: The real directories of the links that were followed on the way.
    """

    name: str
    real: str | None = None
    crossed: tuple[str, ...] = ()


class ProjectTree:
    """
    Collects files of one project, follows links inside the project, and collects every reason against the image.

    Methods raise nothing for a bad file; they add to :attr:`reasons`. Caches and files that ``exclude_patterns`` cover
    are left out silently; a secret that the configuration asks for is a reason.

    Args:
        exclude: ``build.exclude_patterns``.
        hash_file: Computes the digest of a large file; it may use a cache.
    """

    def __init__(self, directory: Path, *, exclude: Sequence[str], hash_file: HashFile) -> None:
        self._root = os.path.realpath(directory)
        self._hash_file = hash_file
        self._taken: dict[str, SourceFile | None] = {}
        self.reasons: list[str] = []
        self._exclude = tuple(self._patterns(exclude, "build.exclude_patterns"))

    def _patterns(self, texts: Sequence[str], where: str) -> Iterator[Pattern]:
        for text in texts:
            try:
                yield Pattern(text)
            except InvalidValue as error:
                self.refuse(f"{where}: {error}")

    def refuse(self, reason: str) -> None:
        """Add *reason* to :attr:`reasons` once."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def excluded(self, name: str) -> bool:
        """Tell whether ``exclude_patterns`` cover *name*, or *name* is in a cache."""
        directory = os.path.isdir(self._place(name))
        return any(is_cache(part) for part in name.split("/")) or self._by_pattern(name, directory=directory)

    def real_name(self, name: str) -> str:
        """Resolve the links in *name* to a path in the project; *name* itself when it leads outside."""
        return self._relative(os.path.realpath(self._place(name))) or name

    def take(self, name: str, *, why: str) -> Iterator[SourceFile]:
        """
        Yield the file *name*, or every file below the directory *name*.

        Args:
            why: The setting that names the file, for :attr:`reasons`: ``predictor.init_kwargs``.
        """
        waiting = [_Step(name=name)]
        while waiting:
            step = waiting.pop()
            real = os.path.realpath(self._place(step.name)) if step.real is None else step.real
            found = self._checked(step, real, why)
            if found is None:
                continue
            if stat.S_ISDIR(found.st_mode):
                waiting.extend(self._children(step, real))
            elif not stat.S_ISREG(found.st_mode):
                self.refuse(f"{_shown(step.name)} ({why}) is neither a file nor a directory.")
            elif (file := self._file(step.name, real, why)) is not None:
                yield file

    def matching(self, text: str) -> Iterator[str]:
        """Yield the paths that match a pattern of ``build.include_files``; a directory stands for all files in it."""
        for pattern in self._patterns([text], "build.include_files"):
            plain = str(PurePosixPath(text)).strip("/")
            if os.path.lexists(self._place(plain)):
                yield plain
            else:
                yield from self._search(pattern)

    def read(self, name: str) -> bytes | None:
        """Read a code file; None when the file is left out or refused."""
        file = next(iter(self.take(name, why="code")), None)
        return None if file is None else file.source.read_bytes()

    def _search(self, pattern: Pattern) -> Iterator[str]:
        waiting = [""]
        while waiting:
            above = waiting.pop()
            for child in self._listed(above):
                name = f"{above}/{child}" if above else child
                place = self._place(name)
                directory = os.path.isdir(place)
                if is_cache(child) or self._by_pattern(name, directory=directory):
                    continue
                if pattern.covers(name, directory=directory):
                    yield name
                elif directory and not os.path.islink(place):
                    waiting.append(name)

    def _checked(self, step: _Step, real: str, why: str) -> os.stat_result | None:
        """Give the file status of *step*; None when it is left out or refused."""
        name, linked = step.name, self._relative(real) or step.name
        found = _stat(real)
        directory = isinstance(found, os.stat_result) and stat.S_ISDIR(found.st_mode)
        parts = [part for path in (name, linked) for part in _parts(path, last=step.real is not None)]
        if any(is_cache(part) for part in parts) or any(
            self._by_pattern(path, directory=directory) for path in {name, linked}
        ):
            return None
        if directory and os.path.isfile(os.path.join(real, "pyvenv.cfg")):  # an environment, whatever it is called
            return None
        if not _is_nameable(name):
            self.refuse(f"{_shown(name)} ({why}) has a name that is not UTF-8 or contains control characters.")
        elif any(part.startswith(_WHITEOUT) for part in _parts(name, last=step.real is not None)):
            self.refuse(
                f"{_shown(name)} ({why}) has a name that begins with {_WHITEOUT}, which marks deleted files in image "
                "layers; rename the file, or list the file in build.exclude_patterns."
            )
        elif not isinstance(found, os.stat_result):
            how = "is a broken link" if os.path.islink(self._place(name)) else "cannot be read"
            self.refuse(f"{_shown(name)} ({why}) {how}: {found.strerror}.")
        elif self._relative(real) is None:
            self.refuse(f"{_shown(name)} ({why}) is a symbolic link that leads out of the project directory.")
        elif any(secret_by_name(part) for part in parts) and not (
            stat.S_ISREG(found.st_mode) and self._is_public(parts, real)
        ):
            led = "" if linked == name else f", a link to {_shown(linked)},"
            self.refuse(
                f"{_shown(name)}{led} ({why}) has a name typical of secrets; move the file out of the project, or list "
                "the file in build.exclude_patterns."
            )
        else:
            return found
        return None

    def _is_public(self, parts: Sequence[str], real: str) -> bool:
        """Tell whether the only suspicious name among *parts* is that of a ``.pem`` file without private keys."""
        if not all(part.lower().endswith(".pem") for part in parts if secret_by_name(part)):
            return False
        try:
            with open(real, "rb") as file:
                return public_by_content(real, file.read(SCANNED_BYTES))
        except OSError:  # its name decides
            return False

    def _children(self, step: _Step, real: str) -> list[_Step]:
        crossed = step.crossed
        if step.real is None and os.path.islink(self._place(step.name)):
            crossed = (*crossed, os.path.realpath(os.path.dirname(self._place(step.name))))
            if any(place == real or place.startswith(f"{real}{os.sep}") for place in crossed):
                self.refuse(f"{_shown(step.name)} is a symbolic link to a directory that contains the link itself.")
                return []
        steps = []
        for child in self._listed(step.name):
            place = f"{real}{os.sep}{child}"
            known = None if os.path.islink(place) else place
            steps.append(_Step(name=f"{step.name}/{child}", real=known, crossed=crossed))
        return steps

    def _listed(self, name: str) -> list[str]:
        try:
            return sorted(os.listdir(self._place(name)))
        except OSError as error:
            self.refuse(f"{_shown(name) or '.'} cannot be listed: {error.strerror}.")
            return []

    def _file(self, name: str, real: str, why: str) -> SourceFile | None:
        if name not in self._taken:
            if len(self._taken) == MOST_FILES:
                self.refuse(
                    f"The image would contain more than {MOST_FILES:,} files; list fewer in build.include_files, or "
                    "exclude some in build.exclude_patterns."
                )
            self._taken[name] = None if len(self._taken) >= MOST_FILES else self._hashed(name, real, why)
        return self._taken[name]

    def _hashed(self, name: str, real: str, why: str) -> SourceFile | None:
        try:
            found = os.stat(real)
            if found.st_size > SCANNED_BYTES:
                digest, size = self._hash_file(Path(real)), found.st_size
            else:
                content = Path(real).read_bytes()
                if kind := secret_by_content(name, content):
                    self.refuse(
                        f"{_shown(name)} ({why}) contains {kind}; move the file out of the project, or list "
                        "the file in build.exclude_patterns."
                    )
                    return None
                digest, size = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}"), len(content)
        except OSError as error:
            self.refuse(f"{_shown(name)} ({why}) cannot be read: {error.strerror}.")
            return None
        return SourceFile(
            path=name,
            source=Path(real),
            size_bytes=size,
            digest=digest,
            executable=bool(found.st_mode & stat.S_IXUSR),
        )

    def _by_pattern(self, name: str, *, directory: bool) -> bool:
        return any(pattern.covers(name, directory=directory) for pattern in self._exclude)

    def _relative(self, real: str) -> str | None:
        """Give *real* relative to the project; None when it is outside."""
        if real == self._root:
            return "."
        top = self._root.rstrip(os.sep) + os.sep
        return real.removeprefix(top) if real.startswith(top) else None

    def _place(self, name: str) -> str:
        return os.path.join(self._root, name)


def _stat(real: str) -> os.stat_result | OSError:
    try:
        return os.stat(real)
    except OSError as error:
        return error


def _parts(path: str, *, last: bool) -> list[str]:
    """Give the names in *path*; only the last name when the directories above were checked before."""
    return [path.rpartition("/")[2]] if last else path.split("/")


def _is_nameable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not any(unicodedata.category(letter) in {"Cc", "Zl", "Zp"} for letter in name)


def _shown(name: str) -> str:
    """Make *name* printable for a message."""
    return name if _is_nameable(name) else ascii(name)
