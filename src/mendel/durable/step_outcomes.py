"""The outcome of a workflow step as JSON, so that a resumed workflow gets the same result or the same error."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from mendel import errors
from mendel.durable.ports import Payload
from mendel.errors import Fenced, MendelError, StepFailed
from mendel.values import from_builtins, from_json, to_builtins, to_json


class ExecutionAbandoned(BaseException):
    """
    Raised when this process stops executing the workflow and stores no outcome; the workflow stays unfinished.

    The class derives from BaseException, so that no ``except Exception`` in a workflow handles it as a failure.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """
    The result or the error of a step.

    Attributes:
        error: The name of the error's class in :mod:`mendel.errors`; None when the step succeeded.
        fields: The attributes of the error, such as ``message`` and ``remedy``.
    """

    result: Payload | None = None
    error: str | None = None
    fields: Payload | None = None


def run_step(act: Callable[[], Payload]) -> StepOutcome:
    """
    Run *act* and give its result or error.

    Raises:
        ExecutionAbandoned: *act* raised Fenced: another process runs the workflow now, so no outcome is stored here.
    """
    try:
        return StepOutcome(result=as_json(act()))
    except Fenced as error:
        raise ExecutionAbandoned(str(error)) from error
    except MendelError as error:
        return StepOutcome(error=type(error).__name__, fields=_fields(error))
    except Exception as error:  # noqa: BLE001 - the one supervisor of steps: unexpected errors are stored too
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return StepOutcome(error=StepFailed.__name__, fields=_fields(StepFailed(message, kind=type(error).__name__)))


def result_or_raise(outcome: StepOutcome) -> Payload:
    """
    Return the result of a stored outcome, or raise its error again.

    Raises:
        MendelError: The step raised a MendelError; class and attributes are the same.
        StepFailed: The step raised another exception.
    """
    if outcome.error is None:
        return outcome.result or {}
    raise _rebuilt(outcome.error, outcome.fields or {})


def as_json(payload: Payload) -> Payload:
    """Convert *payload* to the value that it has after encoding as JSON and decoding."""
    return from_json(to_json(payload), dict[str, Any])


def _fields(error: MendelError) -> Payload:
    return as_json(to_builtins(vars(error)))


def _rebuilt(name: str, fields: Payload) -> MendelError:
    kind = next((kind for kind in _descendants(MendelError) if kind.__name__ == name), MendelError)
    hints = get_type_hints(kind.__init__, vars(errors))
    error = kind.__new__(kind)
    for field, value in fields.items():
        setattr(error, field, from_builtins(value, hints[field]) if field in hints else value)
    error.args = (error.message,)
    return error


def _descendants(kind: type[MendelError]) -> Iterator[type[MendelError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
