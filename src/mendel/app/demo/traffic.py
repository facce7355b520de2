"""Simulate applications for the demo: send rows at a steady rate and post their labels later."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from mendel.app.demo.door_clients import DoorAnswer, DoorClient, Row

_ROWS_BETWEEN_QUESTIONS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One row that was sent, with its answer and the time of the answer."""

    door: str
    answer: DoorAnswer
    truth: Any
    at: datetime


@dataclass(slots=True)
class Tally:
    """Counts of the sent rows by result."""

    by_door: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    model_faults: int = 0
    failed: int = 0
    labels: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """The number of all sent rows."""
        return self.answered + self.model_faults + self.failed


class Traffic:
    """
    Sends rows at a steady rate, one thread per protocol, and posts each label *label_delay* seconds after the answer.

    Args:
        post_labels: Posts a list of (prediction id, label); called from one thread.
        rate: The number of rows per second over all protocols.
        shares: The number of rows out of ten that each protocol gets.
    """

    def __init__(
        self,
        doors: tuple[DoorClient, ...],
        post_labels: Callable[[list[tuple[str, Any]]], None],
        *,
        rate: float,
        label_delay: float,
        shares: tuple[int, ...] = (6, 2, 2),
    ) -> None:
        self.tally = Tally()
        self.log: list[Sent] = []
        self._doors = doors
        self._post_labels = post_labels
        self._rate = rate
        self._label_delay = label_delay
        self._order = [place for place, share in enumerate(shares) for _ in range(share)]
        self._queues: list[queue.SimpleQueue[tuple[Row, Any, bool] | None]] = [queue.SimpleQueue() for _ in doors]
        self._due: queue.SimpleQueue[tuple[float, str, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = [
            *(threading.Thread(target=self._send, args=(place,), daemon=True) for place in range(len(doors))),
            threading.Thread(target=self._label, daemon=True),
        ]
        self._turn = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for waiting in self._queues:
            waiting.put(None)
        for thread in self._threads[:-1]:
            thread.join(timeout=60)
        self._due.put(None)
        self._threads[-1].join(timeout=60)

    def play(
        self,
        rows: list[tuple[Row, Any]],
        *,
        labelled: bool = True,
        until: Callable[[], bool] | None = None,
        rate: float | None = None,
    ) -> int:
        """
        Send *rows* at *rate* per second, or at the configured rate; stop early when *until* gives True.

        Returns:
            The number of rows that were sent.
        """
        start, rate = time.monotonic(), rate or self._rate
        for number, (row, truth) in enumerate(rows):
            if until is not None and number % _ROWS_BETWEEN_QUESTIONS == 0 and until():
                return number
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            self._queues[self._order[self._turn % len(self._order)]].put((row, truth, labelled))
            self._turn += 1
        return len(rows)

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until all sent rows were answered, at most *seconds*."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(not waiting.empty() for waiting in self._queues):
            time.sleep(0.02)
        time.sleep(0.1)

    def since(self, moment: datetime) -> list[Sent]:
        """Give the rows that were answered at or after *moment*, in order of their answers."""
        with self._lock:
            return [sent for sent in self.log if sent.at >= moment]

    def _send(self, place: int) -> None:
        door = self._doors[place]
        while (item := self._queues[place].get()) is not None:
            row, truth, labelled = item
            answer = door.predict(row)
            now = time.monotonic()
            self._count(Sent(door=door.name, answer=answer, truth=truth, at=datetime.now(UTC)))
            if labelled and answer.ok and answer.prediction_id is not None:
                self._due.put((now + self._label_delay, answer.prediction_id, truth))

    def _count(self, sent: Sent) -> None:
        with self._lock:
            self.log.append(sent)
            self.tally.by_door[sent.door] += 1
            if sent.answer.ok:
                self.tally.answered += 1
            elif sent.answer.model_fault:
                self.tally.model_faults += 1
            else:
                self.tally.failed += 1
                self.tally.failures.append(f"{sent.door}: {sent.answer.detail}")

    def _label(self) -> None:
        batch: list[tuple[str, Any]] = []
        while (item := self._due.get()) is not None:
            due, prediction_id, truth = item
            wait = due - time.monotonic()
            if wait > 0:
                self._deliver(batch)
                time.sleep(wait + 0.4)  # so that labels travel in batches
            batch.append((prediction_id, truth))
        self._deliver(batch)

    def _deliver(self, batch: list[tuple[str, Any]]) -> None:
        if batch:
            self._post_labels(list(batch))
            self.tally.labels += len(batch)
            batch.clear()
