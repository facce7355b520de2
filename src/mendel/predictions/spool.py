"""The spool: a server's own disk, written before the answer leaves."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from mendel.errors import DirectoryInUse, InvalidSettings, MendelError, StoreUnavailable
from mendel.predictions.encoding import encode_block, encode_labels
from mendel.predictions.entities import LabelRow, PredictionBlock
from mendel.predictions.feature_privacy import FeatureUse, discreet
from mendel.predictions.open_segment import OpenSegment
from mendel.predictions.segments import BLOCK, LABELS, frame
from mendel.predictions.spool_files import (
    OPEN,
    SEALED,
    check_spool_id,
    claim,
    open_path,
    recover_open,
    sealed_path,
    segment_files,
    take_lock,
    unwritten,
    used_bytes,
)
from mendel.values import to_micros

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPolicy:
    """
    How a spool keeps.

    Attributes:
        seal_after: Age at which an open segment is sealed, by the time its first row carries.
        segment_bytes: Size at which it is sealed.
        max_bytes: Bound on all segments of the directory; above it nothing is logged, loudly.
        fsync: ``off`` survives kill -9; ``batch`` survives power loss too, at a disk flush per batch.
        features: What becomes of a feature, by its name; the others are kept.
        feature_key: The installation's secret for features that are hashed.
    """

    seal_after: timedelta = timedelta(seconds=2)
    segment_bytes: int = 64 << 20
    max_bytes: int = 1 << 30
    fsync: str = "off"
    features: dict[str, FeatureUse] = field(default_factory=dict)
    feature_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.fsync not in {"off", "batch"}:
            raise InvalidSettings(f"spool.fsync is {self.fsync!r}.", remedy="Write off or batch.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolCondition:
    """
    How the spool is.

    Attributes:
        degraded: Why appends are refused; None when they are not.
        appended: Rows and labels taken since opening.
        refused: Rows and labels not taken since opening.
        size_bytes: Bytes in the directory, as last counted.
        recovered: Rows and labels found in unsealed segments at opening.
        torn_bytes: Bytes of torn tails cut off at opening; no acknowledged row was among them.
    """

    degraded: str | None = None
    appended: int = 0
    refused: int = 0
    size_bytes: int = 0
    recovered: int = 0
    torn_bytes: int = 0


class Spool:
    """
    Appends blocks and labels to segment files; one writer per directory, held by a lock.

    An append that answered True survives kill -9 of this process. One that answered False left nothing behind, and the
    condition says why; the spool heals by itself when room comes back (:meth:`tick` looks). Opening recovers what a
    killed writer left: the torn tail is cut off, the rest sealed, and the sequence goes on.

    Safe to call from several threads. *spool_id* must belong to this directory alone and for ever, since the hub skips
    sequence numbers that it knows of it: take it from :func:`spool_identity`.

    Raises:
        DirectoryInUse: Another spool writes there.
        InvalidValue: The directory belongs to another spool id.
        InvalidSettings: A feature shall be hashed, and there is no key.
        StoreUnavailable: The disk is full, or refuses; try again later, and log nothing until then.
    """

    def __init__(self, directory: Path, spool_id: str, *, policy: SpoolPolicy | None = None) -> None:
        self.directory = directory
        self.spool_id = check_spool_id(spool_id)
        self.policy = policy or SpoolPolicy()
        self.condition = SpoolCondition()
        if FeatureUse.HASH in self.policy.features.values() and not self.policy.feature_key:
            raise InvalidSettings("Features shall be hashed, but there is no key.", remedy="Set spool.feature_key.")
        self._mutex = Lock()
        with _refusals_said(directory):
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(directory)
            try:
                claim(directory, self.spool_id)
                self._seq, self._segment = self._recover()
            except (OSError, MendelError):
                os.close(self._lock)
                raise
        self._closed = False
        self._count_bytes()

    def append(self, block: PredictionBlock) -> bool:
        """Write the block; True: every row of it is in the spool, False: none is."""
        key = self.policy.feature_key.encode()
        kept = discreet(block, self.policy.features, key) if self.policy.features else block
        stamp = block.timestamp_micros
        micros = stamp if isinstance(stamp, int) else int(stamp[0])
        return self._append(frame(BLOCK, encode_block(kept)), rows=len(block), labels=0, micros=micros)

    def append_labels(self, labels: Sequence[LabelRow]) -> bool:
        """Write the labels; True: all are in the spool, False: none is."""
        if not labels:
            return True
        micros = to_micros(labels[0].received_at)
        return self._append(frame(LABELS, encode_labels(labels)), rows=0, labels=len(labels), micros=micros)

    def tick(self, now: datetime) -> None:
        """Seal what has grown old, and look whether room came back; call it about twice a second."""
        with self._mutex:
            first = self._segment.first_micros
            if first is not None and to_micros(now) - first >= self.policy.seal_after // timedelta(microseconds=1):
                self._seal()
            self._count_bytes()

    def seal(self) -> None:
        """Seal what is open, if it holds anything, whatever its age."""
        with self._mutex:
            if not self._segment.empty:
                self._seal()

    def close(self) -> None:
        """Seal what is open and give the directory back; closing twice is once."""
        with self._mutex:
            if self._closed:
                return
            if not self._segment.empty:
                self._seal()
            self._closed = True
            self._segment.close()
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, data: bytes, *, rows: int, labels: int, micros: int) -> bool:
        with self._mutex:
            if self._closed:
                return self._refuse(rows + labels, "The spool is closed.")
            if self.condition.size_bytes + len(data) > self.policy.max_bytes:
                return self._refuse(rows + labels, f"The spool holds its bound of {self.policy.max_bytes} bytes.")
            try:
                self._segment.write(data, durable=self.policy.fsync == "batch")
            except OSError as error:
                return self._refuse(rows + labels, _reason(error))
            self._segment.count(rows=rows, labels=labels, micros=micros)
            self._take(rows + labels, len(data))
            if self._segment.size >= self.policy.segment_bytes:
                self._seal()
            return True

    def _take(self, count: int, size: int) -> None:
        before = self.condition
        self.condition = SpoolCondition(
            appended=before.appended + count,
            refused=before.refused,
            size_bytes=before.size_bytes + size,
            recovered=before.recovered,
            torn_bytes=before.torn_bytes,
        )

    def _refuse(self, count: int, reason: str) -> bool:
        self.condition = replace(self.condition, degraded=reason, refused=self.condition.refused + count)
        return False

    def _seal(self) -> None:
        """
        Seal the segment and go on in the next, which is made first: so the highest sequence is never forgotten.

        When the disk does not take it, the segment stays open and appends decide.
        """
        try:
            following = OpenSegment.create(
                open_path(self.directory, self._seq + 1), spool_id=self.spool_id, seq=self._seq + 1
            )
        except OSError as error:
            self.condition = replace(self.condition, degraded=_reason(error))
            return
        try:
            self._segment.seal(durable=self.policy.fsync == "batch")
        except OSError as error:
            following.discard()
            self.condition = replace(self.condition, degraded=_reason(error))
            return
        self._segment.close()
        self._segment.path.replace(sealed_path(self.directory, self._seq))
        self._segment, self._seq = following, self._seq + 1

    def _count_bytes(self) -> None:
        size = used_bytes(self.directory)
        bounded = (self.condition.degraded or "").startswith("The spool holds its bound")
        healed = bounded and size < self.policy.max_bytes
        self.condition = replace(self.condition, size_bytes=size, degraded=None if healed else self.condition.degraded)

    def _recover(self) -> tuple[int, OpenSegment]:
        """
        Seal what a former writer left open; go on in its last segment when that was never written to, else after it.

        So the sequence has no gaps, and the highest number stands in the directory at every instant.
        """
        files = segment_files(self.directory, OPEN, SEALED)
        last = files[-1] if files else None
        reuse = last is not None and last.suffix == OPEN and unwritten(last)
        seq = (int(last.stem) if last else 0) + (0 if reuse else 1)
        segment = OpenSegment.create(open_path(self.directory, seq), spool_id=self.spool_id, seq=seq)
        for path in files:
            if path.suffix == OPEN and path != segment.path:
                found = recover_open(path, self.spool_id)
                self.condition = replace(
                    self.condition,
                    recovered=self.condition.recovered + found.count,
                    torn_bytes=self.condition.torn_bytes + found.torn_bytes,
                )
        return seq, segment


def seal_orphans(root: Path) -> tuple[Path, ...]:
    """Seal what dead writers left in the spool directories below *root*; those with a living writer are left alone."""
    sealed = []
    for mark in sorted(root.glob("*/spool.id")):
        try:
            Spool(mark.parent, mark.read_text(encoding="ascii").strip()).close()
        except DirectoryInUse:
            continue
        sealed.append(mark.parent)
    return tuple(sealed)


@contextmanager
def _refusals_said(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The spool {directory} cannot be opened: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return "The disk is full." if error.errno in _FULL else f"The disk refuses: {error.strerror}."
