"""A thread that renders and writes a process's log, so that no event loop waits for a slow disk."""

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
"""The event field with the type of an exception; repeated events with this field are written once a minute."""


class LogWriter:
    """
    Writes events to standard error in the order of :meth:`put`.

    The first event of a fault is written, then a count per minute. While 10,000 events wait, further events are dropped
    and counted. Waiting events are written when the process exits normally.

    Args:
        render: Formats an event as a line; called in the writer's thread.
        stamped: Adds the fields of the log style to an event of the writer itself.
        limited: Loggers whose equal events are written once a minute, because callers cause them.
    """

    def __init__(
        self, render: Callable[[Event], str], *, stamped: Callable[[Event], Event], limited: frozenset[str]
    ) -> None:
        self._render, self._stamped, self._limited = render, stamped, limited
        self._events: queue.Queue[Event | None] = queue.Queue(_WAITING)
        self._repeats = FaultRepeats()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, event: Event) -> None:
        """Queue *event* without waiting."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write the waiting events and end; gives up after 5 s if standard error accepts nothing."""
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
        if FAULT not in event and str(event.get("logger", "")).partition(".")[0] not in self._limited:
            return True
        kind = (str(event["event"]), str(event.get(FAULT, "")), str(event.get("at", "")))
        return self._repeats.first(kind, time.monotonic())

    def _write_counts(self, until: float | None = None) -> None:
        for (told, *fault), times in self._repeats.due(until or time.monotonic()):
            fields = {name: value for name, value in zip((FAULT, "at"), fault, strict=False) if value}
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
