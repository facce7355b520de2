"""Store received prediction segments in a directory until they are written to the lake."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mendel.errors import AlreadyExists
from mendel.predictions import PendingSegment, check_segment, check_spool_id
from mendel.values import Digest
from mendel.values.atomic_files import translated_disk_errors
from mendel.values.directory_trees import file_digest

_SUFFIX, _PART = ".segment", ".part"


class FileInbox:
    """
    Implements :class:`mendel.predictions.SegmentInbox`: each segment is the file ``<spool id>/<seq>.segment``.

    A segment is written to a temporary file, flushed to disk, and then linked under its name; only then it counts as
    received. Only one process may open the inbox.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with translated_disk_errors(directory, act="written"):
            directory.mkdir(parents=True, exist_ok=True)
            for unfinished in directory.glob(f"*/*{_PART}"):
                unfinished.unlink()

    def put(self, spool_id: str, seq: int, content: bytes, checksum: Digest) -> None:
        check_segment(spool_id, seq, content, checksum)
        target = self._path(spool_id, seq)
        with translated_disk_errors(target, act="written"):
            target.parent.mkdir(exist_ok=True)
            _sync_directory(self._directory)
            self._publish(target, content, checksum)

    def pending(self) -> tuple[PendingSegment, ...]:
        found = []
        with translated_disk_errors(self._directory, act="read"):
            for path in sorted(self._directory.glob(f"*/*{_SUFFIX}")):
                try:
                    size = path.stat().st_size
                except FileNotFoundError:  # the segment was written to the lake in the meantime
                    continue
                found.append(PendingSegment(spool_id=path.parent.name, seq=int(path.stem), size_bytes=size))
        return tuple(sorted(found))

    def read(self, spool_id: str, seq: int) -> bytes | None:
        path = self._path(spool_id, seq)
        with translated_disk_errors(path, act="read"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def remove(self, spool_id: str, seq: int) -> None:
        path = self._path(spool_id, seq)
        with translated_disk_errors(path, act="written"):
            path.unlink(missing_ok=True)

    def _path(self, spool_id: str, seq: int) -> Path:
        return self._directory / check_spool_id(spool_id) / f"{seq:016d}{_SUFFIX}"

    def _publish(self, target: Path, content: bytes, checksum: Digest) -> None:
        """Link the finished file under its final name; if two senders write the same segment, the first file stays."""
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=_PART)
        fresh = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, target)
            except FileExistsError:
                self._require_same(target, checksum)
        finally:
            fresh.unlink()
        _sync_directory(target.parent)

    def _require_same(self, target: Path, checksum: Digest) -> None:
        try:
            known = file_digest(target)
        except FileNotFoundError:  # written to the lake: the sender may delete its copy
            return
        if known != checksum:
            raise AlreadyExists(
                f"The hub already holds segment {int(target.stem)} of spool {target.parent.name} with other content.",
                remedy="Two servers use the same spool id; give each server its own data directory.",
            )


def _sync_directory(directory: Path) -> None:
    """Flush the directory's entries to disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
