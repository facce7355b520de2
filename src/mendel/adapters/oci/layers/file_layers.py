"""Files of a project as a layer: read once, hashed while they are read."""

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
    The entries of *files* below the project's place in the image.

    Reading one raises ``BuildRefused`` when it is not what the plan saw: its bytes are in no layer then.
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
    """What a layer of *files* depends on."""
    return sorted([file.path, str(file.digest), file.executable] for file in files)


def _unchanged(file: SourceFile, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    changed = BuildRefused(
        f"{file.path} changed during the build.", remedy="Build again when no program writes to the file."
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
