"""Labels and predictions that clients send to the hub: they pass through the hub's own spool into the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from mendel.errors import SegmentCorrupt, StoreUnavailable
from mendel.predictions.entities import LabelRow, PredictionBlock
from mendel.predictions.ports import SegmentInbox
from mendel.predictions.spool import Spool
from mendel.predictions.spool_files import salvage, sealed_segments


def forward_segments(directory: Path, inbox: SegmentInbox) -> int:
    """
    Move every sealed segment of the spool in *directory* into the inbox, oldest first; give the number of segments.

    A damaged segment is replaced by its intact frames, so that the sequence continues.
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


class HubIntake:
    """
    Accepts labels and predictions that clients send to the hub; when a method returns, they are in the inbox.

    The labels and predictions survive a power loss if the hub's spool has ``fsync: batch``. Threads may share one
    instance.
    """

    def __init__(self, spool: Spool, inbox: SegmentInbox) -> None:
        self._spool = spool
        self._inbox = inbox
        self._mutex = Lock()
        forward_segments(spool.directory, inbox)  # segments that a killed hub left

    def accept_labels(self, labels: Sequence[LabelRow]) -> None:
        """
        Accept labels, also for predictions that are not logged yet.

        Raises:
            StoreUnavailable: The labels could not be written; none was accepted.
        """
        with self._mutex:
            self._sent(taken=self._spool.append_labels(labels))

    def accept_predictions(self, block: PredictionBlock) -> None:
        """
        Accept predictions that another system made.

        Raises:
            ShapeMismatch: The block's columns have different lengths.
            StoreUnavailable: The predictions could not be written; none was accepted.
        """
        block.check()
        with self._mutex:
            self._sent(taken=self._spool.append(block))

    def _sent(self, *, taken: bool) -> None:
        if not taken:
            raise StoreUnavailable(
                f"The hub cannot write to its prediction log: {self._spool.condition.degraded}",
                remedy="Free disk space on the hub's machine, then send the request again.",
            )
        self._spool.seal()
        forward_segments(self._spool.directory, self._inbox)
