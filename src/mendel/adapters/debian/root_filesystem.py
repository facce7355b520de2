"""
Make the root file system of a base image from Debian packages with mmdebstrap, without files that a server never needs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mendel.adapters.debian.package_contents import (
    PACKAGES,
    SHARED_DIRECTORIES,
    STATUS,
    files_of_scripts,
    is_kept,
    is_read_by_scripts,
    packages_of,
)
from mendel.errors import InvalidValue, ProgramFailed, Unsupported
from mendel.images import BaseRoot, OnProgress, Platform, TaskProgress, ignore_progress
from mendel.images.tar_archives import Directory, Entry, File, Symlink

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_SUITE = re.compile(r"[a-z][a-z0-9-]*")
_MODES = ("auto", "root", "unshare", "fakechroot")
_REMOVED_HOSTS = ("SOURCE_DATE_EPOCH", "DEBIAN_FRONTEND", "APT_CONFIG")
_CHUNK_BYTES = 1 << 20
_TAIL_LINES = 30
_CLEANING_SECONDS = 30
_KEEP_STANZAS = (
    f'mkdir -p "$1/{STATUS}"; for deb in "$1"/var/cache/apt/archives/*.deb; do '
    f'dpkg-deb --field "$deb" > "$1/{STATUS}/$(dpkg-deb --field "$deb" Package)"; done'
)
"""A hook for mmdebstrap that saves the control stanza of every package, so that scanners can list the packages."""

_FOUNDATIONS = {"bullseye": ("bookworm", "python3.11", "python3.9")}
"""
The Debian releases whose Python is too old for Mendel, each with a newer release, its Python, and the old Python. The
base image then has the packages of the newer release, its Python for Mendel, and the ``python3`` of the older release
for the project: programs of an older release run with the C library of a newer one.
"""

_OLD_PYTHON = ("libpython3-stdlib", "python3", "python3-distutils", "python3-lib2to3", "python3-minimal")
_ADD_RELEASE = (
    'set -e; old="$1/etc/apt/sources.list.d/old.list"; '
    r"sed -nE 's#^(deb +(\[[^]]*\] +)?[^ ]+ +){newer}(-security)?( |$)#\1{older}\3\4#p' "
    '"$1/etc/apt/sources.list" > "$old"; test -s "$old"; '
    'printf "Package: {packages}\nPin: release n={older}\nPin-Priority: 1001\n" > "$1/etc/apt/preferences.d/python"'
)
"""
A hook for mmdebstrap that also takes packages from an older release, and prefers the Python of that release.

It fails if the sources that mmdebstrap wrote name no mirror of the newer release.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecipe:
    """
    The choices for a Debian base image.

    Attributes:
        suite: The Debian release, such as ``bookworm``; decides the versions of Python and of the C library. The Python
            of ``bullseye`` (3.9) is too old for Mendel, so that base image also has the Python of ``bookworm``.
        include: Debian packages to add to :data:`PACKAGES`.
        mirrors: Package mirrors in mmdebstrap's syntax; empty for Debian's default mirror.
        mode: How mmdebstrap gets root rights: ``auto``, ``root``, ``unshare``, ``fakechroot``.
    """

    platforms: tuple[Platform, ...]
    suite: str = "bookworm"
    include: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    mode: str = "auto"

    def __post_init__(self) -> None:
        wrong = [name for name in self.include if not _PACKAGE.fullmatch(name)]
        if wrong or not _SUITE.fullmatch(self.suite):
            raise InvalidValue(f"{(wrong or [self.suite])[0]!r} is not a valid name of a Debian package or release.")
        if self.mode not in _MODES:
            raise InvalidValue(f"{self.mode!r} is not a mode of mmdebstrap.", remedy=f"Use one of {', '.join(_MODES)}.")
        if not self.platforms:
            raise InvalidValue("The base image has no platform.", remedy="Give a platform, for example linux/amd64.")


@contextmanager
def unpacked_root(
    recipe: BaseRecipe, platform: Platform, *, program: str = "mmdebstrap", on_progress: OnProgress = ignore_progress
) -> Iterator[BaseRoot]:
    """
    Unpack the packages with mmdebstrap; the entries of the root can be read only inside the ``with`` block.

    The same packages always give identical files.

    Raises:
        Unsupported: mmdebstrap is not installed.
        ProgramFailed: mmdebstrap failed; the error contains the end of the log.
    """
    found = shutil.which(program)
    if found is None:
        raise Unsupported(
            "mmdebstrap is not installed, so no base image can be made.",
            remedy="Run: apt-get install mmdebstrap. Or set build.base_image to the image of a registry.",
        )
    with tempfile.TemporaryDirectory(prefix="mendel-base-") as scratch:
        root = Path(scratch) / "root.tar"
        on_progress(TaskProgress(doing=f"Unpacking Debian packages of {recipe.suite} for {platform}"))
        _bootstrap(found, recipe, platform, root)
        with tarfile.open(root, "r:") as archive:
            members = {_name(member): member for member in archive}
            _require_old_python(recipe, members)
            scripted = {
                path: b"".join(_pieces(archive, member))
                for path, member in members.items()
                if is_read_by_scripts(path) and member.isreg()
            }
            yield BaseRoot(
                platform=platform,
                entries=_entries(archive, members, files_of_scripts(scripted)),
                created=_newest(members),
                created_by="mendel base",
                command=("/usr/bin/python3",),
                environment={"PATH": _PATH, "LANG": "C.UTF-8"},
                packages=packages_of(scripted),
            )


def _bootstrap(program: str, recipe: BaseRecipe, platform: Platform, target: Path) -> None:
    suite, *python = _FOUNDATIONS.get(recipe.suite, (recipe.suite,))
    packages = ",".join(sorted({*PACKAGES, *recipe.include, *((python[0], "python3-distutils") if python else ())}))
    add = _ADD_RELEASE.format(newer=suite, older=recipe.suite, packages=" ".join(_OLD_PYTHON))
    command = [
        *(program, "--quiet", "--variant=extract", f"--mode={recipe.mode}", "--format=tar"),
        *(f"--architectures={platform.architecture}", f"--include={packages}", f"--extract-hook={_KEEP_STANZAS}"),
        *((f"--setup-hook={add}",) if python else ()),
        *(suite, str(target), *recipe.mirrors),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in _REMOVED_HOSTS}
    log = target.with_suffix(".log")
    with log.open("wb") as output:
        status = _run(command, output, {**environment, "LC_ALL": "C.UTF-8"})
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        raise ProgramFailed(
            f"mmdebstrap could not make a base image of Debian {recipe.suite} for {platform}.",
            log_tail=tail,
            remedy=(
                "If you are not root, try --mode unshare or --mode fakechroot. To use another Debian "
                "mirror, give --mirror URL."
            ),
        )


def _require_old_python(recipe: BaseRecipe, members: Collection[str]) -> None:
    newer, *_, python = _FOUNDATIONS.get(recipe.suite, ("", ""))
    if python and f"usr/bin/{python}" not in members:
        raise ProgramFailed(
            f"mmdebstrap made a base image of Debian {recipe.suite} without {python}.",
            remedy=f"Give a mirror that has the releases {newer} and {recipe.suite}: --mirror URL.",
        )


def _run(command: list[str], output: BinaryIO, environment: dict[str, str]) -> int:
    """
    Run *command* and return the exit status; on an interrupt, wait up to 30 s for the command to remove its
    directories.
    """
    child = subprocess.Popen(  # noqa: S603 - a list of arguments; names were checked
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_CLEANING_SECONDS)
            child.kill()
            child.wait()


def _entries(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], made: dict[str, bytes]) -> Iterator[Entry]:
    for path in SHARED_DIRECTORIES:
        yield Directory(path=path, mode=0o1777)
    for path, content in made.items():
        yield File.of(path, content)
    for path, member in members.items():
        if not path or path in made or path in SHARED_DIRECTORIES or not is_kept(path):
            continue
        if member.isdir():
            yield Directory(path=path)
        elif member.issym():
            yield Symlink(path=path, target=member.linkname)
        elif member.isreg() or member.islnk():
            yield _file(archive, path, members[_relative(member.linkname)] if member.islnk() else member)


def _file(archive: tarfile.TarFile, path: str, member: tarfile.TarInfo) -> File:
    content: Callable[[], Iterable[bytes]] = partial(_pieces, archive, member)
    return File(path=path, size=member.size, content=content, executable=bool(member.mode & 0o111))


def _pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    with archive.extractfile(member) or open(os.devnull, "rb") as source:  # noqa: PTH123
        while piece := source.read(_CHUNK_BYTES):
            yield piece


def _newest(members: dict[str, tarfile.TarInfo]) -> datetime:
    """Give the modification time of the newest packaged file, so that the image does not depend on the current time."""
    own = (member.mtime for path, member in members.items() if path.startswith("usr/lib/") and member.isreg())
    return datetime.fromtimestamp(int(max(own, default=0)), UTC)


def _name(member: tarfile.TarInfo) -> str:
    return _relative(member.name)


def _relative(name: str) -> str:
    return name.removeprefix("./").strip("/").removeprefix(".")
