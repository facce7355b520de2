"""How a step ended, as JSON: the same for the run that did it and for the one that resumes and only remembers."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from mendel import errors
from mendel.durable.ports import Payload
from mendel.errors import Fenced, MendelError, StepFailed
from mendel.values import from_builtins, from_json, to_builtins, to_json


class Abandoned(BaseException):
    """
    This execution of a workflow ends here and leaves nothing behind; the workflow stays unfinished.

    No Exception, so that no workflow takes it for a failure of its own.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """
    How a step ended: with a ``result``, or with an error.

    Attributes:
        error: The name of the error's class in :mod:`mendel.errors`; None when there is a result.
        fields: What the error carries.
    """

    result: Payload | None = None
    error: str | None = None
    fields: Payload | None = None


def attempt(act: Callable[[], Payload]) -> StepOutcome:
    """
    Run *act* and say how it ended.

    Raises:
        Abandoned: *act* was fenced: another executor has the workflow now, and what happened here is not its outcome.
    """
    try:
        return StepOutcome(result=as_json(act()))
    except Fenced as error:
        raise Abandoned(str(error)) from error
    except MendelError as error:
        return StepOutcome(error=type(error).__name__, fields=_fields(error))
    except Exception as error:  # noqa: BLE001 - the one supervisor of steps: what nobody foresaw is remembered too
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return StepOutcome(error=StepFailed.__name__, fields=_fields(StepFailed(message, kind=type(error).__name__)))


def settle(outcome: StepOutcome) -> Payload:
    """
    Give the result back, or raise the error anew.

    Raises:
        MendelError: Of the class and with the fields that the step raised.
        StepFailed: The step raised anything else.
    """
    if outcome.error is None:
        return outcome.result or {}
    raise _rebuilt(outcome.error, outcome.fields or {})


def as_json(payload: Payload) -> Payload:
    """*payload* as it will be read back."""
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
