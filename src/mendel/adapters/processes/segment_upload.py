"""What a server sends: sealed segments of its spools, and its report."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
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
    """Where segments and reports go; both may be sent again without harm."""

    async def put_segment(self, segment: SealedSegment) -> None:
        """
        Send the segment.

        Raises:
            Conflict, InvalidInput: It will never be taken.
            Corrupt: Its content is damaged.
            MendelError: Not now; try again.
        """

    async def post_report(self, report: ServerReport) -> None:
        """Send the report."""


class SegmentUpload:
    """
    Sends every sealed segment, oldest first within a spool, and removes what was taken.

    Nothing is removed before the intake answered. A segment that is refused for good stops its spool, loudly, since
    what comes after it must not overtake it; the other spools go on.

    Args:
        spools: One spool directory per worker below it.
        every: How often to look.
    """

    def __init__(self, intake: Intake, spools: Path, *, rng: random.Random, every: timedelta) -> None:
        self._intake = intake
        self._spools = spools
        self._rng = rng
        self._every = every.total_seconds()
        self._refused: dict[str, str] = {}

    @property
    def waiting(self) -> int:
        """Sealed segments on disk."""
        return sum(len(sealed_segments(spool)) for spool in self._directories())

    @property
    def refused(self) -> dict[str, str]:
        """Why a spool (by its id) has stopped."""
        return dict(self._refused)

    async def run(self) -> None:
        """Send until cancelled; nothing is lost while the intake is away."""
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
        Send what is sealed now.

        Raises:
            MendelError: The intake is away; what it took is removed, the rest waits.
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
        """A segment that the disk has damaged is sent with what of it is whole, so that its spool goes on."""
        try:
            await self._intake.put_segment(segment)
        except Corrupt as error:
            _log.error("segment_damaged", spool=segment.spool_id, seq=segment.seq, error=str(error))
            await self._intake.put_segment(await asyncio.to_thread(salvage, segment))

    def _directories(self) -> list[Path]:
        return sorted(path for path in self._spools.iterdir() if path.is_dir())


class Reporting:
    """
    Sends a report every so often. Counters are cumulative, so one that is lost is replaced by the next.

    Args:
        draw_up: Makes the report with the given sequence number, as things stand.
    """

    def __init__(self, intake: Intake, draw_up: Callable[[int], ServerReport], *, every: timedelta) -> None:
        self._intake = intake
        self._draw_up = draw_up
        self._every = every.total_seconds()
        self._seq = 0
        self._failures = 0

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.send()
            await asyncio.sleep(self._every)

    async def send(self) -> bool:
        """Report now; False: it did not arrive."""
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
