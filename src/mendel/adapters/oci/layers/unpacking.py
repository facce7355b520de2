"""Unpack layers into a directory; no entry can write outside that directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from mendel.adapters.oci.layers.compression import Compressed
from mendel.errors import Corrupt, DigestMismatch, Unsupported
from mendel.images import Blobs
from mendel.images.manifests import Descriptor
from mendel.values import Digest

_PIECE_BYTES = 1 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40
_GZIP = 31  # zlib's window bits for gzip headers and checksums
_OPEN = 0o755
_PERMISSIONS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO | stat.S_ISVTX


class _Inflating:
    """
    Decompresses a gzip file of any number of members in large pieces.

    The standard library's reader works in pieces of 8 KiB, which is much slower.
    """

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._member = zlib.decompressobj(_GZIP)
        self._waiting = b""

    def read(self, size: int = _PIECE_BYTES) -> bytes:
        """Read at most *size* bytes; empty only at the end; a truncated member raises EOFError."""
        while True:
            if self._member.eof:
                self._waiting = self._member.unused_data or self._packed.read(_PIECE_BYTES)
                if not self._waiting:
                    return b""
                self._member = zlib.decompressobj(_GZIP)
            given = self._waiting or self._packed.read(_PIECE_BYTES)
            piece = self._member.decompress(given, size)
            self._waiting = self._member.unconsumed_tail
            if piece:
                return piece
            if not given and not self._member.eof:
                raise EOFError("the compressed data are truncated")


class _Hashing:
    """A stream that counts and hashes the bytes that are read through it."""

    def __init__(self, stream: BinaryIO | _Inflating) -> None:
        self._stream = stream
        self._hashed = hashlib.sha256()
        self.size = 0

    def read(self, size: int = _PIECE_BYTES) -> bytes:
        piece = self._stream.read(size)
        self._hashed.update(piece)
        self.size += len(piece)
        return piece

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hashed.hexdigest()}")


@contextmanager
def uncompressed(blobs: Blobs, layer: Descriptor, diff_id: Digest) -> Iterator[_Hashing]:
    """
    Open the uncompressed tar of a layer; on normal exit the rest is read and its digest checked against *diff_id*.

    Raises:
        DigestMismatch, Corrupt, Unsupported: As in :func:`measure`.
    """
    if layer.media_type.endswith("zstd"):
        raise Unsupported(
            "A layer of the base image is compressed with zstd, which Mendel cannot unpack.",
            remedy="Convert the base image to gzip layers with: skopeo copy --dest-compress-format gzip",
        )
    with blobs.path(layer.digest).open("rb") as blob:
        is_packed = layer.media_type.endswith("gzip")
        stream = _Hashing(_Inflating(blob) if is_packed else blob)
        try:
            yield stream
            while stream.read():
                pass
        except (tarfile.TarError, zlib.error, EOFError) as error:
            raise Corrupt(f"The image layer {layer.digest} cannot be unpacked: {error}.") from error
    if stream.digest != diff_id:
        raise DigestMismatch(
            f"The unpacked image layer {layer.digest} has digest {stream.digest}, but its image states {diff_id}."
        )


def measure(blobs: Blobs, layer: Descriptor, diff_id: Digest) -> Compressed:
    """
    Read a whole layer and give its sizes.

    Raises:
        DigestMismatch: The uncompressed content does not have the digest *diff_id*.
        Corrupt: The layer is damaged.
        Unsupported: The layer is compressed with zstd.
    """
    with uncompressed(blobs, layer, diff_id) as stream:
        while stream.read():
            pass
    return Compressed(digest=layer.digest, size=layer.size, diff_id=diff_id, unpacked_bytes=stream.size)


def unpack(blobs: Blobs, layer: Descriptor, diff_id: Digest, into: Path) -> int:
    """
    Unpack a layer over the files in *into*, with modes and times, and as root also with owners.

    Returns the uncompressed size in bytes. Whiteouts delete files of lower layers. Links are resolved inside *into*, so
    no file outside is written. Device files and setuid and setgid bits are omitted.

    Raises:
        DigestMismatch, Corrupt, Unsupported: As in :func:`measure`.
    """
    with uncompressed(blobs, layer, diff_id) as stream:
        tree = _Tree(into)
        with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|", bufsize=_PIECE_BYTES) as archive:
            for entry in archive:
                tree.add(archive, entry)
    return stream.size


class _Tree:
    """Unpacks the entries of one layer into a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._as_root = os.geteuid() == 0
        self._added: set[Path] = set()
        self._directories: dict[str, Path] = {}

    def add(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        parts = [part for part in entry.name.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise Corrupt(f"An image layer contains the path {entry.name!r}, which leads out of the image.")
        if not parts:
            return
        parent = self._directory("/".join(parts[:-1]))
        name, path = parts[-1], parent / parts[-1]
        if name == _OPAQUE:
            self._clear(parent)
        elif name.startswith(_WHITEOUT):
            taken = name.removeprefix(_WHITEOUT)
            if taken in {"", ".", ".."}:
                raise Corrupt(f"An image layer contains the deletion mark {entry.name!r}, which names no file.")
            self._remove(parent / taken)
        elif entry.isdir():
            self._make_directory(path, entry)
        elif entry.isreg():
            self._make_file(path, archive, entry)
        elif entry.issym():
            self._remove(path)
            path.symlink_to(entry.linkname)
            self._own(path, entry)
        elif entry.islnk():
            self._link(path, entry)
        self._added.add(path)

    def _directory(self, name: str) -> Path:
        """Give the path of the layer's directory *name*, creating missing directories."""
        known = self._directories.get(name)
        if known is None:
            known = self._directories[name] = self._resolve(name)
            self._make_parents(known)
        return known

    def _make_parents(self, path: Path) -> None:
        """Create directories that have no entry in any layer with mode 755, whatever the umask is."""
        if not path.is_dir():
            self._make_parents(path.parent)
            path.mkdir(exist_ok=True)
            path.chmod(_OPEN)

    def _resolve(self, name: str) -> Path:
        """Resolve *name* as inside a container: absolute links and ``..`` stay below the root."""
        pending, path, links = name.split("/")[::-1], self._root, 0
        while pending:
            part = pending.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                path = path if path == self._root else path.parent
                continue
            step = path / part
            if not step.is_symlink():
                path = step
                continue
            links += 1
            if links > _MOST_LINKS:
                raise Corrupt(f"The symbolic links of {name!r} in an image layer form a circle.")
            target = str(step.readlink())
            path = self._root if target.startswith("/") else path
            pending += target.split("/")[::-1]
        return path

    def _make_directory(self, path: Path, entry: tarfile.TarInfo) -> None:
        if path.is_symlink() or not path.is_dir():
            self._remove(path)
            path.mkdir(exist_ok=True)  # another thread may create the same directory
        self._own(path, entry)
        path.chmod(entry.mode & _PERMISSIONS | stat.S_IRWXU)

    def _make_file(self, path: Path, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        self._remove(path)
        with path.open("xb") as file:
            content = archive.extractfile(entry)
            while content is not None and (piece := content.read(_PIECE_BYTES)):
                file.write(piece)
            self._own(path, entry)
            os.fchmod(file.fileno(), entry.mode & _PERMISSIONS | stat.S_IRUSR | stat.S_IWUSR)
        os.utime(path, (entry.mtime, entry.mtime))

    def _link(self, path: Path, entry: tarfile.TarInfo) -> None:
        folder, _, name = entry.linkname.lstrip("/").rpartition("/")
        target = self._resolve(folder) / name
        if name in {"", ".", ".."} or not (target.is_symlink() or target.is_file()):
            raise Corrupt(
                f"An image layer contains the hard link {entry.name!r} to {entry.linkname!r}, which does not exist."
            )
        if target != path:
            self._remove(path)
            os.link(target, path, follow_symlinks=False)

    def _own(self, path: Path, entry: tarfile.TarInfo) -> None:
        if self._as_root:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)

    def _clear(self, directory: Path) -> None:
        for path in directory.iterdir():
            if path not in self._added:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                self._directories.clear()
            else:
                path.unlink()


def read_only_copy(source: Path, into: Path) -> None:
    """Copy the tree with hard links to its files; files of neither tree may be changed afterwards."""
    shutil.copytree(source, into, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
