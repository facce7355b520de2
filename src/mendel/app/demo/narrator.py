"""Print the demo's progress: with live status on a terminal, line by line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 200


class Narrator:
    """Prints headings, events and waits, with the seconds since the demo started."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _console()
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """The seconds since the demo started."""
        return time.monotonic() - self._start

    def act(self, number: int, title: str) -> None:
        """Print the heading of a part of the demo."""
        self.console.print()
        self.console.print(Text(f"{number}. {title}", style="bold cyan"))

    def tell(self, text: str, *, good: bool = True) -> None:
        """Print an event; *good* False marks a problem."""
        self.console.print(
            Text.assemble(
                (f"{self.elapsed:6.1f} s  ", "dim"), ("✓ " if good else "! ", "green" if good else "yellow"), text
            )
        )

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show *text* as the current wait while the context is entered."""
        if not self.console.is_terminal:
            self.console.print(Text(f"{self.elapsed:6.1f} s  … {text}", style="dim"))
            yield
            return
        with self.console.status(text):
            yield

    def table(self, title: str, headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        """Print a table."""
        table = Table(title=title, title_justify="left", show_lines=False)
        for header in headers:
            table.add_column(header, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print()
        self.console.print(table)

    def box(self, title: str, text: str) -> None:
        """Print *text* in a box."""
        self.console.print(Panel(Text(text), title=title, title_align="left", expand=False))


def _console() -> Console:
    """Make a console as wide as the terminal; without a terminal, wide enough that tables do not wrap."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def clock(moment: datetime) -> str:
    """Write the local time of day with tenths of a second, for example ``14:03:07.5``."""
    return f"{moment.astimezone():%H:%M:%S}.{moment.microsecond // 100_000}"
