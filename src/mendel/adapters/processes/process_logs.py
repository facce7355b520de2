"""Configure the log of a server process: one line per event, on standard error."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from mendel.adapters.processes.log_writer import FAULT, Event, LogWriter
from mendel.errors import InvalidSettings
from mendel.resilience import fault_of

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_WHISPERERS: Final = ("uvicorn", "asyncio", "httpx", "httpcore", "hpack")
_HANDLE_REQUESTS: Final = frozenset({"asyncio", "uvicorn", "grpc", "httpx", "httpcore", "hpack"})
_WRITERS: Final[list[LogWriter]] = []
"""
The log writer of this process; replaced when the log style changes, which a worker learns after its first log lines.
"""
Processor = Callable[[Any, str, Event], Event]
_log = structlog.get_logger("mendel.process")
_FIELDS: Final = ("levelname", "name", "message", "asctime", "taskName")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStyle:
    """
    The log format, from the settings ``server.logger`` and ``server.log_level``.

    Attributes:
        level: The lowest level that is written.
        structured: Whether lines are JSON objects instead of text.
        timestamp: Whether each line has its time; container log collectors add their own.
        tasks: Whether each line names the asyncio task that wrote it.
        format: Replaces the four fields above: a ``%`` template over ``levelname``, ``name``, ``message``, ``asctime``
            and ``taskName``.
    """

    level: Level = "INFO"
    structured: bool = False
    timestamp: bool = True
    tasks: bool = False
    format: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None:
            _check_format(self.format)


def write_log(style: LogStyle) -> None:
    """
    Configure logging of this process, including libraries and predictors, to use *style*.

    A thread renders and writes the lines. Exceptions are written as type and code location, without their message.
    """
    chain, lowest = _enrichments(style), getattr(logging, style.level)
    writer = LogWriter(
        _renderer(style), stamped=lambda event: _enriched(chain, "error", event), limited=_HANDLE_REQUESTS
    )
    former = _WRITERS.pop() if _WRITERS else None
    _WRITERS.append(writer)
    structlog.configure(
        processors=[*chain, _without_message, lambda _, __, event: ((event,), {})],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=lambda *_: _EventLogger(writer),
    )
    root = logging.getLogger()
    root.handlers[:] = [_RecordHandler(writer, chain)]
    root.setLevel(lowest)
    for name in _WHISPERERS:
        logging.getLogger(name).setLevel(max(lowest, logging.WARNING))
    warnings.showwarning = _log_warning
    if former is not None:
        former.close()


def log_crashes() -> None:
    """Write exceptions that end this process or one of its threads to the log."""
    sys.excepthook = lambda _, error, __: _log.critical("crashed", exc_info=error)
    threading.excepthook = lambda end: _log.error("thread_crashed", exc_info=end.exc_value)
    sys.unraisablehook = lambda found: _log.error("exception_ignored", exc_info=found.exc_value)


class _EventLogger:
    """The last step of structlog's processors, which puts the event into the log writer's queue."""

    def __init__(self, writer: LogWriter) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = writer.put


class _RecordHandler(logging.Handler):
    """Converts log records of the standard library to events."""

    def __init__(self, writer: LogWriter, chain: Sequence[Processor]) -> None:
        super().__init__()
        self._writer, self._chain = writer, chain

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the event of *record*; a record whose arguments do not fit its template is queued unformatted."""
        try:
            told = _text_of(record)
        except Exception:  # noqa: BLE001 - the caller's arguments do not fit its template
            told = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        event: Event = {"event": told, "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        level = record.levelname.lower()
        self._writer.put(_without_message(None, level, _enriched(self._chain, level, event)))


def _text_of(record: logging.LogRecord) -> object:
    """
    Give the message; for libraries that handle requests, only the part before any value, which may quote a request.
    """
    if record.name.partition(".")[0] not in _HANDLE_REQUESTS or record.levelno < logging.WARNING:
        return record.getMessage()
    return re.split(r"[\n<({\[\"']", str(record.msg), maxsplit=1)[0].strip()


def _log_warning(  # noqa: PLR0917 - the signature of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Write a Python warning as category and code location, because its text may quote a caller."""
    del message, file, line
    _log.warning("python_warning", fault=category.__name__, at=f"{Path(filename).name}:{lineno}")


def _enriched(chain: Sequence[Processor], level: str, event: Event) -> Event:
    for processor in chain:
        event = processor(None, level, event)
    return event


def _enrichments(style: LogStyle) -> list[Processor]:
    chain: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if style.timestamp or style.format is not None:
        chain.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    if style.tasks or style.format is not None:
        chain.append(_with_task)
    return chain


def _without_message(_: object, __: str, event: Event) -> Event:
    """Replace an exception by its type and code location."""
    event.pop("stack_info", None)
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        fault = fault_of(error)
        event[FAULT], event["at"] = fault.kind, fault.at
    return event


def _renderer(style: LogStyle) -> Callable[[Event], str]:
    if style.format is not None:
        template = style.format
        return lambda event: _formatted(template, event)
    ending: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    if style.structured:
        ending = structlog.processors.JSONRenderer(default=str)
    return lambda event: str(ending(None, "", event))


def _with_task(_: Any, __: str, event: Event) -> Event:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    event["task"] = None if task is None else task.get_name()
    return event


def _formatted(template: str, event: Event) -> str:
    told = dict(event)
    fields = {
        "levelname": str(told.pop("level", "info")).upper(),
        "name": told.pop("logger", "mendel"),
        "asctime": told.pop("timestamp", ""),
        "taskName": told.pop("task", None),
    }
    message = str(told.pop("event", ""))
    fields["message"] = " ".join([message, *(f"{key}={value}" for key, value in told.items())])
    return _fill(template, fields)


def _fill(template: str, fields: Mapping[str, object]) -> str:
    return template % fields


def _check_format(template: str) -> None:
    try:
        _fill(template, dict.fromkeys(_FIELDS, ""))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSettings(
            f"The log format {template!r} in server.logger.format is invalid: {error}.",
            remedy=f"Write fields as in %(message)s; the fields are {', '.join(_FIELDS)}.",
        ) from error
