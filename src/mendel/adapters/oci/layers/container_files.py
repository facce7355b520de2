"""List the files in one directory of an image as a container would see them, without unpacking the image."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Iterable
from typing import IO, Any, BinaryIO, Final, cast

from mendel.adapters.oci.layers.unpacking import uncompressed
from mendel.images import Blobs
from mendel.images.manifests import Descriptor
from mendel.values import Digest

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_PIECE_BYTES: Final = 1 << 20
_MOST_STEPS: Final = 400  # a chain of links that leads back to itself ends


def files_below(blobs: Blobs, layers: Iterable[tuple[Descriptor, Digest]], directory: str) -> dict[str, Digest | None]:
    """
    Give the digest of every file that a container sees below *directory*, by its path relative to *directory*.

    The digest is None for links and special files, and for ``.`` if *directory* itself is not a directory. Upper layers
    override lower layers, whiteouts delete files, and a file that a layer writes through a link of a lower layer is
    listed at the target of the link.

    Args:
        layers: Each layer, from the lowest to the highest, with the digest of its uncompressed content.

    Raises:
        DigestMismatch, Corrupt, Unsupported: As in :func:`mendel.adapters.oci.layers.unpacking.measure`.
    """
    stack = _Stack(directory.strip("/"))
    for layer, diff_id in layers:
        with (
            uncompressed(blobs, layer, diff_id) as stream,
            tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|", bufsize=_PIECE_BYTES) as archive,
        ):
            for entry in archive:
                stack.add(archive, entry)
        stack.end_layer()
    return stack.files()


class _Stack:
    """The files below one directory, and the links of the whole image, after some layers."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lower: dict[str, Digest | None] = {}
        self._own: dict[str, Digest | None] = {}
        self._links: dict[str, str] = {}

    def add(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        """Add the next entry of the current layer."""
        parent, _, name = posixpath.normpath(f"/{entry.name}").lstrip("/").rpartition("/")
        parent = self._resolved(parent)
        path = posixpath.join(parent, name)
        if name == _OPAQUE:
            for known in (self._lower, self._links):
                _drop(known, parent, itself=False)
        elif name.startswith(_WHITEOUT):
            for known in (self._lower, self._links):
                _drop(known, posixpath.join(parent, name.removeprefix(_WHITEOUT)))
        elif entry.isdir():
            for known in (self._lower, self._own, self._links):
                known.pop(path, None)
        else:
            for known in (self._lower, self._own, self._links):
                _drop(known, path)
            if entry.issym():
                self._links[path] = posixpath.normpath(posixpath.join("/", parent, entry.linkname)).lstrip("/")
            if path == self._root or path.startswith(f"{self._root}/"):
                self._own[path] = _digest(archive.extractfile(entry)) if entry.isreg() else None

    def end_layer(self) -> None:
        """Begin the next layer; the whiteouts of a layer delete only files of lower layers."""
        self._lower |= self._own
        self._own = {}

    def files(self) -> dict[str, Digest | None]:
        """Give the files by their paths relative to the directory."""
        return {
            "." if path == self._root else path.removeprefix(f"{self._root}/"): digest
            for path, digest in self._lower.items()
        }

    def _resolved(self, directory: str) -> str:
        """Follow the links in *directory*."""
        done = ""
        waiting = directory.split("/") if directory else []
        for _ in range(_MOST_STEPS):
            if not waiting:
                break
            done = posixpath.join(done, waiting.pop(0))
            if (target := self._links.get(done)) is not None:
                waiting, done = [*filter(None, target.split("/")), *waiting], ""
        return posixpath.join(done, *waiting)


def _drop(files: dict[str, Any], path: str, *, itself: bool = True) -> None:
    below = f"{path}/" if path else ""
    for name in [name for name in files if (itself and name == path) or name.startswith(below)]:
        del files[name]


def _digest(content: IO[bytes] | None) -> Digest | None:
    if content is None:
        return None
    hashed = hashlib.sha256()
    while piece := content.read(_PIECE_BYTES):
        hashed.update(piece)
    return Digest(f"sha256:{hashed.hexdigest()}")
