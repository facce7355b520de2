"""Tell a person on standard error what slow work is doing, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TextIO

_AT_ONCE: Final = 0.0
_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_S: Final = 0.1
_REMIND_S: Final = 5.0


@dataclass(slots=True)
class Progress:
    """
    The phases of one piece of work, shown while they last.

    On a terminal, one line with a moving sign and the seconds is drawn again and again, and removed at the end.
    Elsewhere, a line is written when a phase begins, and again every five seconds.

    Args:
        stream: Where to write; None writes nothing.
        moving: Whether *stream* is a terminal on which nothing else is written.
        after_s: Show nothing during the first seconds, so that fast work stays silent.
    """

    stream: TextIO | None
    moving: bool
    after_s: float = _AT_ONCE
    _doing: str = ""
    _detail: str = ""
    _began: float = 0.0
    _shown: bool = False
    _drawn: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def phase(self, doing: str, detail: str = "") -> None:
        """Say what the work is now *doing*, for example ``Training tumours``; only terminals show *detail*."""
        with self._changed:
            self._detail = detail
            if doing == self._doing:
                return
            self._doing, self._began, self._shown = doing, time.monotonic(), False
            if self.after_s == _AT_ONCE:
                self._show()
            self._changed.notify()

    def end(self) -> None:
        """Stop, and remove the moving line."""
        with self._changed:
            self._ended = True
            if self._drawn:
                self._write("\r\x1b[K")
            self._changed.notify()

    def repeat(self) -> None:
        """Keep the seconds up to date until :meth:`end`."""
        begun = time.monotonic()
        with self._changed:
            while not self._ended:
                quiet = begun + self.after_s - time.monotonic()
                due = _FRAME_S if self.moving else self._began + _REMIND_S - time.monotonic()
                if quiet > 0:
                    due = quiet
                elif self._doing and (self.moving or not self._shown or due <= 0):
                    self._show()
                    due = _FRAME_S if self.moving else _REMIND_S
                self._changed.wait(timeout=max(due, _FRAME_S))

    def _show(self) -> None:
        seconds = time.monotonic() - self._began
        passed = f" {seconds:.0f} s" if seconds >= 1 else ""
        self._shown = True
        if self.moving:
            sign = _FRAMES[int(seconds / _FRAME_S) % len(_FRAMES)]
            self._drawn = True
            self._write(f"\r{sign} {self._doing} ...{self._detail}{passed}\x1b[K")
        else:
            self._write(f"{self._doing} ...{passed}\n")

    def _write(self, text: str) -> None:
        """Write *text*; when nobody reads the stream any longer, the work goes on in silence."""
        if self.stream is None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self.stream = None


@contextmanager
def showing(
    doing: str, *, stream: TextIO | None, moving: bool | None = None, after_s: float = _AT_ONCE
) -> Iterator[Progress]:
    """
    Show *doing*, and every later phase, while the ``with`` block runs.

    Args:
        moving: Whether to draw a moving line; None means on a terminal.
    """
    shown = Progress(stream, (stream is not None and stream.isatty()) if moving is None else moving, after_s)
    shown.phase(doing)
    clock = None if stream is None else threading.Thread(target=shown.repeat, name="progress", daemon=True)
    if clock is not None:
        clock.start()
    try:
        yield shown
    finally:
        shown.end()
        if clock is not None:
            clock.join()
