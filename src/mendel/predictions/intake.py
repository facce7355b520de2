"""What reaches the hub itself takes the same road: its own spool, then the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from mendel.errors import SegmentCorrupt, StoreUnavailable
from mendel.predictions.entities import LabelRow, PredictionBlock
from mendel.predictions.ports import SegmentInbox
from mendel.predictions.spool import Spool
from mendel.predictions.spool_files import salvage, sealed_segments


def forward(directory: Path, inbox: SegmentInbox) -> int:
    """
    Put every sealed segment of the spool in *directory* into an inbox, oldest first, and delete it there; how many.

    A segment that the disk has damaged is replaced by its whole frames, so that the sequence goes on.
    """
    segments = sealed_segments(directory)
    for segment in segments:
        try:
            inbox.put(segment.spool_id, segment.seq, segment.path.read_bytes(), segment.checksum)
        except SegmentCorrupt:
            saved = salvage(segment)
            inbox.put(saved.spool_id, saved.seq, saved.path.read_bytes(), saved.checksum)
        segment.path.unlink(missing_ok=True)
    return len(segments)


class Intake:
    """
    Takes labels and predictions that are posted to the hub; when it returns, they are durably in the inbox.

    The hub's spool should keep ``fsync: batch``. Safe to share between threads.
    """

    def __init__(self, spool: Spool, inbox: SegmentInbox) -> None:
        self._spool = spool
        self._inbox = inbox
        self._mutex = Lock()
        forward(spool.directory, inbox)  # what a killed hub left

    def accept_labels(self, labels: Sequence[LabelRow]) -> None:
        """
        Take labels, of known and of unknown predictions.

        Raises:
            StoreUnavailable: The disk does not take them; none was taken.
        """
        with self._mutex:
            self._sent(taken=self._spool.append_labels(labels))

    def accept_predictions(self, block: PredictionBlock) -> None:
        """
        Take predictions that were made elsewhere.

        Raises:
            ShapeMismatch: The block's columns do not fit each other.
            StoreUnavailable: The disk does not take them; none was taken.
        """
        block.check()
        with self._mutex:
            self._sent(taken=self._spool.append(block))

    def _sent(self, *, taken: bool) -> None:
        if not taken:
            raise StoreUnavailable(f"The log of the hub takes nothing: {self._spool.condition.degraded}")
        self._spool.seal()
        forward(self._spool.directory, self._inbox)
