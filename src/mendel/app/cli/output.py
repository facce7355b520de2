"""Print the results of commands: lines and tables for people, JSON for programs, and error messages."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mendel.errors import MendelError

if TYPE_CHECKING:
    from mendel.app.progress import Progress
    from mendel.images import TaskProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table with its rows; if the table has no rows, the text ``empty`` is printed instead."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    empty: str


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result of a command.

    Attributes:
        value: The value for programs, printed as JSON if ``--json`` is given.
        text: The lines and tables for people; an iterator is read only when the lines are printed.
    """

    value: object
    text: Iterable[str | Grid]
    exit_code: int = 0


def emit(outcome: Result | Iterator[Result] | None, *, as_json: bool) -> int:
    """
    Print the return value of a command, and give the exit code.

    If the command is a generator, each result is printed when it is yielded; the JSON is the list of all values.
    """
    if outcome is None:
        return 0
    if isinstance(outcome, Result):
        _emit_json(outcome.value) if as_json else _emit_text(outcome.text)
        return outcome.exit_code
    if as_json:
        _emit_json([result.value for result in outcome])
        return 0
    for result in outcome:
        _emit_text(result.text)
    return 0


def say(text: str = "") -> None:
    """Print one line for people."""
    sys.stdout.write(f"{text}\n")


def say_now(text: str) -> None:
    """Print one line at once; when nobody reads standard output any longer, the command goes on in silence."""
    try:
        say(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(text: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(f"{text}\n")


def _emit_json(value: object) -> None:
    import msgspec  # noqa: PLC0415 - commands import what they need: help must be quick

    from mendel.values import to_json  # noqa: PLC0415

    sys.stdout.write(msgspec.json.format(to_json(value), indent=2).decode() + "\n")


def _emit_text(text: Iterable[str | Grid]) -> None:
    for part in text:
        say(part) if isinstance(part, str) else _emit_grid(part)


def _emit_grid(grid: Grid) -> None:
    """Print a table; names are never cut off when output is not a terminal."""
    cells = [[str(cell) for cell in row] for row in grid.rows]
    if not cells:
        say(grid.empty)
        return
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        _emit_rich(grid, cells)
        return
    widths = [max(len(cell) for cell in column) for column in zip(grid.columns, *cells, strict=True)]
    say(grid.title)
    for line in [grid.columns, *cells]:
        say(" " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _emit_rich(grid: Grid, cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=grid.title, title_justify="left")
    for header in grid.columns:
        table.add_column(header, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def progress(doing: str) -> AbstractContextManager[Progress]:
    """Show on standard error what a command is *doing*, and later phases; with ``--json``, show nothing."""
    from mendel.app.progress import showing  # noqa: PLC0415 - help must be quick

    return showing(doing, stream=None if json_asked() else sys.stderr)


def json_asked() -> bool:
    """Whether the command that runs was given ``--json``."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("json"))


@contextmanager
def told_plainly() -> Iterator[None]:
    """
    Print errors as one message and exit with 1; exit with 2 after wrong usage, and with 130 after Ctrl-C.

    An exception that is not a :class:`MendelError` is a defect of Mendel and is printed with its traceback.
    """
    try:
        yield
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from done
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from error
    except click.Abort as error:
        warn("The command was aborted; nothing was changed.")
        raise SystemExit(1) from error
    except MendelError as error:
        _warn_of(error)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        raise SystemExit(130) from error
    except BrokenPipeError as error:
        sys.stderr.close()
        raise SystemExit(141) from error


def _warn_of(error: MendelError) -> None:
    warn(f"error: {error.message}")
    for reason in getattr(error, "reasons", ()):
        warn(f"  - {reason}")
    for told in (getattr(error, "detail", ""), error.remedy):
        if told:
            warn(f"  {told}")
    if tail := getattr(error, "log_tail", ""):
        warn(tail.rstrip())


@contextmanager
def ended_tidily() -> Iterator[None]:
    """
    Convert SIGTERM and SIGHUP to an exception that ends the command with the exit code 143 or 129.

    The exception lets the command stop its containers and programs and delete its temporary directories. A signal that
    the parent process ignores, for example under ``nohup``, stays ignored.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def following(doing: str) -> Iterator[Callable[[TaskProgress], None]]:
    """
    Show the progress of a long task: a moving line on a terminal, else one line for each part of the task.

    The ``with`` statement gives the function that receives the progress reports.
    """
    said: set[str] = set()
    with progress(doing) as shown:

        def tell(report: TaskProgress) -> None:
            begun = report.doing.split(" ", 1)[0].rstrip(":")
            if shown.moving or begun not in said:
                said.add(begun)
                shown.phase(report.doing, _share(report))

        yield tell


def _share(report: TaskProgress) -> str:
    return f" {report.done / report.total:.0%} of {report.total / 1e6:.0f} MB" if report.total else ""
