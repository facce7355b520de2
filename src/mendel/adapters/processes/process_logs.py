"""How the processes of a server write their log: one line per event, on standard error."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog

from mendel.errors import InvalidSettings

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_WHISPERERS: Final = ("uvicorn", "asyncio", "httpx", "httpcore")
_FIELDS: Final = ("levelname", "name", "message", "asctime", "taskName")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStyle:
    """
    How lines look, as ``server.logger`` and ``server.log_level`` say it.

    Attributes:
        level: What is less than this is not written.
        structured: JSON objects instead of lines for people.
        timestamp: Each line carries its time; those who collect logs of containers have one already.
        tasks: Each line names the task that wrote it.
        format: In place of the above a ``%`` template over ``levelname``, ``name``, ``message``, ``asctime`` and
            ``taskName``.
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
    """From here on this process writes its log, and that of any library or predictor that logs, in *style*."""
    chain = [*_enrichments(style)]
    lowest = getattr(logging, style.level)
    structlog.configure(
        processors=[*chain, *_ending(style)],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[_named, *chain], processors=[strip, *_ending(style)])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(lowest)
    for name in _WHISPERERS:
        logging.getLogger(name).setLevel(max(lowest, logging.WARNING))


Event = MutableMapping[str, Any]


def _enrichments(style: LogStyle) -> list[Any]:
    chain: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if style.timestamp or style.format is not None:
        chain.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    if style.tasks or style.format is not None:
        chain.append(_with_task)
    return [*chain, structlog.processors.StackInfoRenderer()]


def _ending(style: LogStyle) -> list[Any]:
    if style.format is not None:
        template = style.format
        return [structlog.processors.format_exc_info, lambda _, __, event: _formatted(template, event)]
    if style.structured:
        return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str)]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _named(logger: Any, _: str, event: Event) -> Event:
    name = getattr(event.get("_record"), "name", None) or getattr(logger, "name", None)
    if name is not None:
        event["logger"] = name
    return event


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
    message, trace = str(told.pop("event", "")), told.pop("exception", None)
    fields["message"] = " ".join([message, *(f"{key}={value}" for key, value in told.items())])
    return _fill(template, fields) + (f"\n{trace}" if trace else "")


def _fill(template: str, fields: Mapping[str, object]) -> str:
    return template % fields


def _check_format(template: str) -> None:
    try:
        _fill(template, dict.fromkeys(_FIELDS, ""))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSettings(
            f"server.logger.format {template!r} cannot be filled: {error}.",
            remedy=f"Write %(message)s; there are {', '.join(_FIELDS)}.",
        ) from error
