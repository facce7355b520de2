"""Sends the sealed segments of a server's spools, and the server's report, to the hub."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from mendel.errors import Conflict, Corrupt, InvalidInput, MendelError
from mendel.predictions import SealedSegment, salvage, sealed_segments
from mendel.resilience import RetryPolicy, TryAgain, decide_retry
from mendel.values import ServerReport

_log = structlog.get_logger("mendel.upload")
_RETRY: Final = RetryPolicy(attempts=sys.maxsize, base=timedelta(milliseconds=500), cap=timedelta(seconds=10))


class Intake(Protocol):
    """The receiver of segments and reports; sending either again has no further effect."""

    async def put_segment(self, segment: SealedSegment) -> None:
        """
        Send the segment.

        Raises:
            Conflict, InvalidInput: The segment is refused for good.
            Corrupt: The content of the segment is damaged.
            MendelError: The receiver is unavailable; try again.
        """

    async def post_report(self, report: ServerReport) -> None:
        """Send the report."""


class SegmentUpload:
    """
    Sends every sealed segment, oldest first within a spool, and removes accepted segments.

    No segment is removed before the intake answered. A segment that is refused for good stops its spool with an error
    in the log, since later segments must not overtake it; the other spools continue.

    Args:
        spools: The directory that contains the spool directory of each worker.
        every: How often the spools are checked for sealed segments.
    """

    def __init__(self, intake: Intake, spools: Path, *, rng: random.Random, every: timedelta) -> None:
        self._intake = intake
        self._spools = spools
        self._rng = rng
        self._every = every.total_seconds()
        self._refused: dict[str, str] = {}

    @property
    def waiting(self) -> int:
        """The number of sealed segments on disk."""
        return sum(len(sealed_segments(spool)) for spool in self._directories())

    @property
    def refused(self) -> dict[str, str]:
        """Give the reason for each stopped spool, by spool id."""
        return dict(self._refused)

    async def run(self) -> None:
        """Send sealed segments until the task is cancelled; segments stay on disk while the intake is unavailable."""
        failures = 0
        while True:
            try:
                await self.send_all()
            except (MendelError, OSError) as error:
                failures += 1
                if failures == 1:
                    _log.warning("segments_wait", waiting=self.waiting, error=str(error))
                decision = decide_retry(_RETRY, failures, self._rng)
                if isinstance(decision, TryAgain):
                    await asyncio.sleep(decision.after.total_seconds())
            else:
                failures = 0
                await asyncio.sleep(self._every)

    async def send_all(self) -> None:
        """
        Send every segment that is sealed now.

        Raises:
            MendelError: The intake is unavailable; accepted segments are removed, the others wait.
        """
        for spool in self._directories():
            for segment in sealed_segments(spool):
                if not await self._send(segment):
                    break

    async def _send(self, segment: SealedSegment) -> bool:
        try:
            await self._put(segment)
        except (Conflict, Corrupt, InvalidInput) as error:
            if self._refused.get(segment.spool_id) != str(error):
                _log.error("segment_refused", spool=segment.spool_id, seq=segment.seq, error=str(error))
            self._refused[segment.spool_id] = str(error)
            return False
        self._refused.pop(segment.spool_id, None)
        segment.path.unlink(missing_ok=True)
        return True

    async def _put(self, segment: SealedSegment) -> None:
        """Send one segment; of a damaged segment, send the readable part, so that the spool can continue."""
        try:
            await self._intake.put_segment(segment)
        except Corrupt as error:
            _log.error("segment_damaged", spool=segment.spool_id, seq=segment.seq, error=str(error))
            await self._intake.put_segment(await asyncio.to_thread(salvage, segment))

    def _directories(self) -> list[Path]:
        return sorted(path for path in self._spools.iterdir() if path.is_dir())


class Reporting:
    """
    Sends a report at every interval, and at once after :meth:`hasten`.

    Counters are cumulative, so the next report replaces a lost report.

    Args:
        draw_up: Makes the current report with the given sequence number.
    """

    def __init__(self, intake: Intake, draw_up: Callable[[int], ServerReport], *, every: timedelta) -> None:
        self._intake = intake
        self._draw_up = draw_up
        self._every = every.total_seconds()
        self._seq = 0
        self._failures = 0
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Send the server's report every interval until the task is cancelled."""
        while True:
            self._wanted.clear()
            await self.send()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._wanted.wait()

    def hasten(self) -> None:
        """Send the next report now, because what the server serves has changed."""
        self._wanted.set()

    async def send(self) -> bool:
        """Send a report now; False means that the report did not arrive."""
        self._seq += 1
        try:
            await self._intake.post_report(self._draw_up(self._seq))
        except MendelError as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("report_not_taken", error=str(error))
            return False
        self._failures = 0
        return True
