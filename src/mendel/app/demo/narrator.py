"""How the demo tells its story: live on a terminal, line by line elsewhere."""

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
    """Prints acts, facts and waits, each with the seconds since the story began."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _console()
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._start

    def act(self, number: int, title: str) -> None:
        """Begin an act."""
        self.console.print()
        self.console.print(Text(f"{number}. {title}", style="bold cyan"))

    def tell(self, text: str, *, good: bool = True) -> None:
        """One thing that happened."""
        self.console.print(
            Text.assemble(
                (f"{self.elapsed:6.1f} s  ", "dim"), ("✓ " if good else "! ", "green" if good else "yellow"), text
            )
        )

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something is awaited."""
        if not self.console.is_terminal:
            self.console.print(Text(f"{self.elapsed:6.1f} s  … {text}", style="dim"))
            yield
            return
        with self.console.status(text):
            yield

    def table(self, title: str, headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        """A table of what happened."""
        table = Table(title=title, title_justify="left", show_lines=False)
        for header in headers:
            table.add_column(header, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print()
        self.console.print(table)

    def box(self, title: str, text: str) -> None:
        """A text worth reading whole."""
        self.console.print(Panel(Text(text), title=title, title_align="left", expand=False))


def _console() -> Console:
    """As wide as the terminal; where there is none, wide enough for a table whose lines are whole."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def clock(moment: datetime) -> str:
    """A time of day as the story tells it."""
    return f"{moment.astimezone():%H:%M:%S}.{moment.microsecond // 100_000}"
