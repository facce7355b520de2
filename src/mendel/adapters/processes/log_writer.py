"""The thread that renders and writes a process's log, so that no event loop waits for a line or a slow disk."""

from __future__ import annotations

import atexit
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from mendel.resilience import FaultRepeats

Event = MutableMapping[str, Any]
_WAITING: Final = 10_000
_LOOK_EVERY_S: Final = 1.0
_FLUSH_S: Final = 5.0
FAULT: Final = "fault"
"""The field that holds the type of an exception, beside ``at``; events that have it are written once a minute."""


class LogWriter:
    """
    Writes events to standard error in the order in which they were put.

    The first event about a fault is written, then one count per minute. Events beyond 10,000 waiting ones are dropped
    and counted. What waits is written when the process exits by itself.

    Args:
        render: Makes the line of an event; called in the writer's thread.
        repeated: Makes the event about the repetitions of a fault, with the usual fields of this log's style.
    """

    def __init__(self, render: Callable[[Event], str], *, stamped: Callable[[Event], Event]) -> None:
        self._render, self._stamped = render, stamped
        self._events: queue.Queue[Event | None] = queue.Queue(_WAITING)
        self._repeats = FaultRepeats()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, event: Event) -> None:
        """Queue *event*; never waits."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, and end; a standard error that takes nothing is left after 5 s."""
        atexit.unregister(self.close)
        if self._thread.is_alive():
            try:
                self._events.put(None, timeout=_FLUSH_S)
            except queue.Full:
                return
            self._thread.join(_FLUSH_S)

    def _run(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                self._write_counts()
                continue
            if event is None:
                self._write_counts(until=math.inf)
                return
            if self._is_first(event):
                self._write(event)
            self._write_counts()

    def _is_first(self, event: Event) -> bool:
        if FAULT not in event:
            return True
        kind = (str(event["event"]), str(event[FAULT]), str(event.get("at", "")))
        return self._repeats.first(kind, time.monotonic())

    def _write_counts(self, until: float | None = None) -> None:
        for (told, *fault), times in self._repeats.due(until or time.monotonic()):
            fields = dict(zip((FAULT, "at"), fault, strict=False))
            self._write(self._stamped({"event": "repeated", "of": told, **fields, "times": times}))
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write(self._stamped({"event": "log_lines_dropped", "lines": dropped}))

    def _write(self, event: Event) -> None:
        try:
            sys.stderr.write(self._render(event) + "\n")
            sys.stderr.flush()
        except Exception as error:  # noqa: BLE001 - the supervisor of the log: a line that cannot be rendered or written is lost
            self._lost(error)

    @staticmethod
    def _lost(error: Exception) -> None:
        try:
            sys.stderr.write(f"A line of the log was lost: {type(error).__name__}\n")
        except (OSError, ValueError):
            return
