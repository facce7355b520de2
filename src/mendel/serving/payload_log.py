"""Write requests and answers to the server's log when ``observability.log_payloads`` is true."""

from __future__ import annotations

from typing import Any, Final

import structlog

from mendel.serving.entities import InferenceAnswer, InferenceCall, Matrix, Records

_log = structlog.get_logger("mendel.payloads")
_SHOWN_ROWS: Final = 100


def log_asked(call: InferenceCall) -> None:
    """Write the first 100 rows of the request *call* to the server's log."""
    rows: Any = call.input.rows if isinstance(call.input, Records | Matrix) else call.input.tensors
    _log.info(
        "asked",
        model=call.model,
        door=call.door,
        correlation_id=call.correlation_id or None,
        rows=len(rows),
        payload=_shown(rows),
    )


def log_answered(answer: InferenceAnswer) -> None:
    """Write the first 100 predictions of *answer* to the server's log, with the correlation id of the request."""
    _log.info(
        "answered",
        model=str.__str__(answer.metadata.model),
        version=answer.metadata.label,
        correlation_id=answer.correlation_id or None,
        ms=round(answer.took.total_seconds() * 1000, 3),
        payload=_shown(answer.predictions if answer.body is None else answer.body.content),
        probabilities=None if answer.probabilities is None else _shown(answer.probabilities),
    )


def _shown(rows: Any) -> Any:
    return list(rows[:_SHOWN_ROWS]) if isinstance(rows, list | tuple) else rows
