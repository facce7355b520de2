"""Find the Python interpreter and C library of a base image by reading its layers, without unpacking."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Literal

from mendel.errors import BuildRefused, Corrupt
from mendel.images import Blobs, Interpreter
from mendel.images.manifests import Descriptor

_PYTHON: Final = re.compile(r"python(3\.\d+)")
_LIBC: Final = re.compile(r"libc(?:-2\.\d+)?\.so(?:\.6)?")
_MUSL: Final = re.compile(r"ld-musl-.*\.so\.1")
_RELEASE: Final = re.compile(rb"release version (\d+\.\d+)")
_LIBC_MAX_BYTES: Final = 32 << 20
_MOST_LINKS: Final = 40
_LIBRARIES: Final = (
    *(f"/lib/{machine}-linux-gnu" for machine in ("x86_64", "aarch64")),
    *(f"/usr/lib/{machine}-linux-gnu" for machine in ("x86_64", "aarch64")),
    *("/lib64", "/usr/lib64", "/lib", "/usr/lib"),
)
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """
    A base image's interpreter (absolute path), Python minor version (``3.11``) and C library version (``2.36``).

    ``runtime`` is the newest other Python, if that runs Mendel and *python* is too old for Mendel; else None.
    """

    interpreter: str
    python: str
    glibc: str
    runtime: Interpreter | None = None


@dataclass(slots=True)
class _Node:
    """An entry of the merged file system; ``layer`` is the number of the newest layer that contains the entry."""

    kind: Literal["directory", "file", "link"]
    layer: int
    target: str = ""
    glibc: str = ""
    children: dict[str, _Node] = field(default_factory=dict)


class FileTree:
    """
    The file names of stacked layers merged as in a container: upper layers win, and whiteouts delete.

    Paths are resolved through links of lower layers (``/lib -> usr/lib``).
    """

    def __init__(self) -> None:
        self._root = _Node("directory", 0)
        self._layer = 0

    def add_layer(self, tar: BinaryIO) -> None:
        """
        Add the next layer, an uncompressed tar that is read once from start to end.

        Raises:
            Corrupt: The layer is not a tar, or is truncated.
        """
        self._layer += 1
        try:
            with tarfile.open(fileobj=tar, mode="r|") as archive:
                for entry in archive:
                    self._add(archive, entry)
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise Corrupt(f"A layer of the base image cannot be read: {error}.") from error

    def find(self, path: str) -> str | None:
        """Resolve all links in *path*; None if the path does not exist."""
        found = self._walk(path)
        return None if found is None else found[0]

    def names(self, directory: str) -> tuple[str, ...]:
        """Give the sorted names in *directory*; empty if *directory* is not a directory."""
        found = self._walk(directory)
        return () if found is None else tuple(sorted(found[1].children))

    def glibc(self, path: str) -> str | None:
        """Give the version of the C library at *path*; None if the file is not a C library."""
        found = self._walk(path)
        return None if found is None or not found[1].glibc else found[1].glibc

    def _add(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        parts = [part for part in entry.name.split("/") if part not in {"", "."}]
        if not parts or ".." in parts:
            return
        parent, name = self._directory(parts[:-1]), parts[-1]
        if name == ".wh..wh..opq":
            _drop_below(parent, self._layer)
        elif name.startswith(".wh."):
            self._take_away(parent, name.removeprefix(".wh."))
        elif entry.isdir():
            self._make_directory(parent, name)
        elif entry.issym():
            parent.children[name] = _Node("link", self._layer, target=entry.linkname)
        elif entry.islnk():
            original = self._walk("/" + entry.linkname, follow_last=False)
            if original is not None:
                parent.children[name] = original[1]
        elif entry.isreg():
            parent.children[name] = _Node("file", self._layer, glibc=_stated_version(archive, entry, name))

    def _take_away(self, parent: _Node, name: str) -> None:
        gone = parent.children.get(name)
        if gone is None:
            return
        if gone.layer < self._layer:
            del parent.children[name]
        else:
            _drop_below(gone, self._layer)

    def _make_directory(self, parent: _Node, name: str) -> None:
        there = parent.children.get(name)
        if there is None or there.kind != "directory":
            parent.children[name] = _Node("directory", self._layer)
        else:
            there.layer = self._layer

    def _directory(self, parts: Iterable[str]) -> _Node:
        path, node = "", self._root
        for part in parts:
            path = f"{path}/{part}"
            found = self._walk(path)
            if found is None or found[1].kind != "directory":
                node.children[part] = _Node("directory", self._layer)
                node = node.children[part]
            else:
                path, node = found
        return node

    def _walk(self, path: str, *, follow_last: bool = True) -> tuple[str, _Node] | None:
        pending = [part for part in reversed(path.split("/")) if part not in {"", "."}]
        trail: list[tuple[str, _Node]] = [("", self._root)]
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                trail = trail[:-1] or trail
                continue
            child = trail[-1][1].children.get(part)
            if child is None:
                return None
            if child.kind == "link" and (pending or follow_last):
                links += 1
                if links > _MOST_LINKS:
                    return None
                if child.target.startswith("/"):
                    trail = trail[:1]
                pending += [step for step in reversed(child.target.split("/")) if step not in {"", "."}]
            else:
                trail.append((part, child))
        return "/" + "/".join(name for name, _ in trail[1:]), trail[-1][1]


def inspect(blobs: Blobs, layers: Iterable[Descriptor], environment: Mapping[str, str]) -> Inside:
    """
    Read every layer once, lowest first, and find the interpreter and the C library.

    Args:
        environment: The environment of the image's configuration; ``PATH`` decides between several interpreters.

    Raises:
        BuildRefused: The image has no Python 3 or no glibc, or a layer has an unsupported compression.
        Corrupt: A layer is damaged.
    """
    tree = FileTree()
    for layer in layers:
        with _unpacked(blobs.path(layer.digest)) as tar:
            tree.add_layer(tar)
    return look_inside(tree, environment)


def look_inside(tree: FileTree, environment: Mapping[str, str]) -> Inside:
    """Find the interpreter and the C library in *tree*; errors as in :func:`inspect`, with all reasons."""
    places = tuple(dict.fromkeys([*environment.get("PATH", _PATH).split(":"), "/usr/local/bin", "/usr/bin"]))
    interpreter = _interpreter(tree, places)
    glibc = next((found for place in _LIBRARIES if (found := tree.glibc(f"{place}/libc.so.6"))), None)
    reasons = []
    if interpreter is None:
        reasons.append("it has no python3.N in PATH, /usr/local/bin or /usr/bin")
    if glibc is None and any(_MUSL.fullmatch(name) for name in tree.names("/lib")):
        reasons.append("its C library is musl (Alpine), which most wheels do not support")
    elif glibc is None:
        reasons.append("it has no GNU C library (libc.so.6)")
    if interpreter is None or glibc is None:
        raise BuildRefused(
            f"The base image cannot be used for a classifier: {'; '.join(reasons)}.",
            reasons=tuple(reasons),
            remedy=(
                "Use a base image with glibc and Python, such as python:3.11-slim, or make a base image "
                "with: mendel base"
            ),
        )
    own = Interpreter(python=interpreter.rpartition("python")[2], path=interpreter)
    others = [Interpreter(python=path.rpartition("python")[2], path=path) for path in _interpreters(tree, places)]
    able = [each for each in others if each.runs_mendel]
    runtime = None if own.runs_mendel or not able else max(able, key=lambda each: _minor(each.path))
    return Inside(interpreter=interpreter, python=own.python, glibc=glibc, runtime=runtime)


def _interpreter(tree: FileTree, directories: Sequence[str]) -> str | None:
    """Give the interpreter that ``python3`` names in the first directory with a Python, else the newest one there."""
    for directory in directories:
        found = list(_interpreters(tree, [directory]))
        if not found:
            continue
        chosen = (tree.find(f"{directory}/python3") or "").rpartition("/")[2]
        return next((path for path in found if path.rpartition("/")[2] == chosen), max(found, key=_minor))
    return None


def _interpreters(tree: FileTree, directories: Sequence[str]) -> Iterator[str]:
    for directory in directories:
        for name in tree.names(directory):
            if _PYTHON.fullmatch(name) and tree.find(f"{directory}/{name}") is not None:
                yield f"{directory.rstrip('/')}/{name}"


def _minor(path: str) -> int:
    return int(path.rpartition(".")[2])


def _stated_version(archive: tarfile.TarFile, entry: tarfile.TarInfo, name: str) -> str:
    if not _LIBC.fullmatch(name) or entry.size > _LIBC_MAX_BYTES:
        return ""
    file = archive.extractfile(entry)
    stated = None if file is None else _RELEASE.search(file.read())
    return "" if stated is None else stated[1].decode()


def _drop_below(node: _Node, layer: int) -> None:
    """Delete the entries of lower layers below *node*, also inside directories that *layer* contains."""
    for name, child in list(node.children.items()):
        if child.layer < layer:
            del node.children[name]
        else:
            _drop_below(child, layer)


def _unpacked(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb")  # type: ignore[return-value]  # readable like any other
    if magic == b"\x28\xb5\x2f\xfd":
        reason = "a layer is compressed with zstd"
        raise BuildRefused(
            f"The base image cannot be read: {reason}.",
            reasons=(reason,),
            remedy="Convert the base image to gzip layers with: skopeo copy --dest-compress-format gzip",
        )
    return path.open("rb")


def path_entries(environment: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Split the ``NAME=value`` entries of a configuration into pairs."""
    for entry in environment:
        name, _, value = entry.partition("=")
        yield name, value
