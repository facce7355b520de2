"""The spool stores predictions and labels on the server's own disk before the answer is sent."""

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
from mendel.predictions.feature_privacy import FeaturePrivacy, apply_feature_privacy
from mendel.predictions.open_segment import OpenSegment
from mendel.predictions.segments import BLOCK, LABELS, encode_frame
from mendel.predictions.spool_files import (
    OPEN,
    SEALED,
    check_spool_id,
    claim_directory,
    has_no_data,
    lock_directory,
    open_path,
    recover_open,
    sealed_path,
    segment_files,
    used_bytes,
)
from mendel.values import to_micros

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AT_LIMIT = "The spool (prediction log) has reached its limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPolicy:
    """
    How a spool stores predictions and labels.

    Attributes:
        seal_after: The age, counted from its first row, at which an open segment is sealed.
        segment_bytes: The size at which an open segment is sealed.
        max_bytes: The largest total size of the segments in the directory; beyond it, rows are refused and the spool
            reports itself as degraded.
        fsync: With ``off``, logged rows survive kill -9; with ``batch``, also power loss, at one disk flush per batch.
        features: What to store of a feature, by name: ``keep``, ``hash`` or ``drop``; other features are kept.
        feature_key: The installation's secret key for hashed features.
    """

    seal_after: timedelta = timedelta(seconds=2)
    segment_bytes: int = 64 << 20
    max_bytes: int = 1 << 30
    fsync: str = "off"
    features: dict[str, FeaturePrivacy] = field(default_factory=dict)
    feature_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.fsync not in {"off", "batch"}:
            raise InvalidSettings(
                f"spool.fsync is {self.fsync!r}, which is not a valid value.", remedy="Set spool.fsync to off or batch."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolCondition:
    """
    The state of a spool.

    Attributes:
        degraded: Why rows are refused now; None when rows are accepted.
        appended: Rows and labels accepted since the spool was opened.
        refused: Rows and labels refused since the spool was opened.
        size_bytes: The total size of the segments when last counted.
        recovered: Rows and labels found in unsealed segments when the spool was opened.
        torn_bytes: Bytes of incomplete frames removed when the spool was opened; they held no acknowledged row.
    """

    degraded: str | None = None
    appended: int = 0
    refused: int = 0
    size_bytes: int = 0
    recovered: int = 0
    torn_bytes: int = 0


class Spool:
    """
    Appends blocks and labels to segment files. A lock admits one writer per directory; threads may share one spool.

    Rows whose append returned True survive kill -9 of this process. An append that returned False stored nothing;
    ``condition`` states the reason. When disk space is free again, :meth:`tick` ends the degraded state. Opening a
    spool recovers the files of a killed writer: an incomplete frame is removed, the rest is sealed, and the sequence
    continues.

    *spool_id* must never be used for another directory, because the hub skips sequence numbers that it has received
    from a spool id. Take it from :func:`spool_identity`.

    Raises:
        DirectoryInUse: Another spool writes to the directory.
        InvalidValue: The directory belongs to another spool id.
        InvalidSettings: A feature is set to ``hash`` and ``feature_key`` is empty.
        StoreUnavailable: The directory cannot be written; try again later, and log nothing until then.
    """

    def __init__(self, directory: Path, spool_id: str, *, policy: SpoolPolicy | None = None) -> None:
        self.directory = directory
        self.spool_id = check_spool_id(spool_id)
        self.policy = policy or SpoolPolicy()
        self.condition = SpoolCondition()
        if FeaturePrivacy.HASH in self.policy.features.values() and not self.policy.feature_key:
            raise InvalidSettings(
                "spool.features sets a feature to hash, but spool.feature_key is empty.",
                remedy="Set spool.feature_key to a secret text.",
            )
        self._mutex = Lock()
        with _translated_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = lock_directory(directory)
            try:
                claim_directory(directory, self.spool_id)
                self._seq, self._segment = self._recover()
            except (OSError, MendelError):
                os.close(self._lock)
                raise
        self._closed = False
        self._count_bytes()

    def append(self, block: PredictionBlock) -> bool:
        """Write the block; give True when all its rows are in the spool, False when none is."""
        key = self.policy.feature_key.encode()
        kept = apply_feature_privacy(block, self.policy.features, key) if self.policy.features else block
        stamp = block.timestamp_micros
        micros = stamp if isinstance(stamp, int) else int(stamp[0])
        return self._append(encode_frame(BLOCK, encode_block(kept)), rows=len(block), labels=0, micros=micros)

    def append_labels(self, labels: Sequence[LabelRow]) -> bool:
        """Write the labels; give True when all are in the spool, False when none is."""
        if not labels:
            return True
        micros = to_micros(labels[0].received_at)
        return self._append(encode_frame(LABELS, encode_labels(labels)), rows=0, labels=len(labels), micros=micros)

    def tick(self, now: datetime) -> None:
        """Seal an old open segment, and check for free space; call this about twice a second."""
        with self._mutex:
            first = self._segment.first_micros
            if first is not None and to_micros(now) - first >= self.policy.seal_after // timedelta(microseconds=1):
                self._seal()
            self._count_bytes()

    def seal(self) -> None:
        """Seal the open segment now, unless it is empty."""
        with self._mutex:
            if not self._segment.empty:
                self._seal()

    def close(self) -> None:
        """Seal the open segment and release the directory; a second call does nothing."""
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
                return self._refuse(
                    rows + labels, "The spool (prediction log) is closed, because the server is stopping."
                )
            if self.condition.size_bytes + len(data) > self.policy.max_bytes:
                return self._refuse(rows + labels, f"{_AT_LIMIT} of {self.policy.max_bytes} bytes.")
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
        Seal the open segment and continue in the next segment.

        The next file is created first, so that the directory always contains the highest sequence number. When writing
        fails, the segment stays open; later appends report the failure.
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
        bounded = (self.condition.degraded or "").startswith(_AT_LIMIT)
        healed = bounded and size < self.policy.max_bytes
        self.condition = replace(self.condition, size_bytes=size, degraded=None if healed else self.condition.degraded)

    def _recover(self) -> tuple[int, OpenSegment]:
        """
        Seal the segments that a former writer left open, and open the next segment.

        A last segment without data is reused, so that the sequence has no gaps. The directory always contains the
        highest sequence number.
        """
        files = segment_files(self.directory, OPEN, SEALED)
        last = files[-1] if files else None
        reuse = last is not None and last.suffix == OPEN and has_no_data(last)
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
    """Seal the open segments in the spool directories below *root*, except those of running writers."""
    sealed = []
    for mark in sorted(root.glob("*/spool.id")):
        try:
            Spool(mark.parent, mark.read_text(encoding="ascii").strip()).close()
        except DirectoryInUse:
            continue
        sealed.append(mark.parent)
    return tuple(sealed)


@contextmanager
def _translated_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The spool directory {directory} cannot be opened: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return (
        "The disk of the spool is full."
        if error.errno in _FULL
        else f"The disk of the spool cannot be written: {error.strerror}."
    )
