"""The segment file that a spool is writing."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from mendel.predictions.segments import segment_footer, segment_header


class OpenSegment:
    """
    An open segment file: complete frames up to ``size``, and the running digest of its bytes.

    A failed write leaves no partial frame: the file is truncated to its last complete frame, at once or before the
    next write.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd
        self.size = self.rows = self.labels = 0
        self.first_micros: int | None = None
        self._digest = hashlib.sha256()
        self._whole = True

    @classmethod
    def create(cls, path: Path, *, spool_id: str, seq: int) -> OpenSegment:
        """Create the file, or truncate it, and write its header frame; a failure raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        segment = cls(path, os.open(path, flags, 0o600))
        try:
            segment.write(segment_header(spool_id, seq))
        except OSError:
            segment.close()
            raise
        return segment

    @property
    def empty(self) -> bool:
        """True when the segment holds neither rows nor labels."""
        return not (self.rows or self.labels)

    def write(self, data: bytes, *, durable: bool = False) -> None:
        """
        Append complete frames.

        Raises:
            OSError: The frames could not be written; the segment is unchanged.
        """
        if not self._whole:
            self._cut()
        self._whole = False
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.fd, rest) :]
            if durable:
                os.fsync(self.fd)
        except OSError:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._whole = True
        self._digest.update(data)
        self.size += len(data)

    def count(self, *, rows: int, labels: int, micros: int) -> None:
        """Count the rows and labels of the last write; *micros* is the time of its first row."""
        self.rows += rows
        self.labels += labels
        self.first_micros = micros if self.first_micros is None else self.first_micros

    def seal(self, *, durable: bool) -> None:
        """Write the footer frame; raises OSError like :meth:`write`."""
        self.write(segment_footer(rows=self.rows, labels=self.labels, sha256=self._digest.digest()), durable=durable)

    def close(self) -> None:
        os.close(self.fd)

    def discard(self) -> None:
        """Close the file and delete it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _cut(self) -> None:
        os.ftruncate(self.fd, self.size)
        self._whole = True
