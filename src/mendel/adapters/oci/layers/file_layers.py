"""Make a layer from project files, which are read once and hashed while read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from mendel.errors import BuildRefused
from mendel.images import APP, SourceFile
from mendel.images.tar_archives import File
from mendel.values import Digest

_PIECE_BYTES = 1 << 20
_APP = str(APP).lstrip("/")


def file_entries(files: Iterable[SourceFile], on_bytes: Callable[[int], None]) -> tuple[File, ...]:
    """
    Make tar entries for *files* below the project directory of the image.

    Reading an entry raises ``BuildRefused`` if the file changed after the plan was made; the layer is then not written.
    """
    return tuple(
        File(
            path=f"{_APP}/{file.path}",
            size=file.size_bytes,
            content=partial(_unchanged, file, on_bytes),
            executable=file.executable,
        )
        for file in files
    )


def files_key(files: Sequence[SourceFile]) -> list[list[str | bool]]:
    """Give the properties of *files* that determine the layer's content, for the cache key."""
    return sorted([file.path, str(file.digest), file.executable] for file in files)


def _unchanged(file: SourceFile, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    changed = BuildRefused(
        f"The file {file.path} was changed during the build.",
        remedy="Make sure that no program writes to the file, then build again.",
    )
    hashed, left = hashlib.sha256(), file.size_bytes
    try:
        with file.source.open("rb", buffering=0) as source:
            while piece := source.read(_PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    raise changed
                hashed.update(piece)
                yield piece
                on_bytes(len(piece))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise changed from error
    if left or Digest(f"sha256:{hashed.hexdigest()}") != file.digest:
        raise changed
