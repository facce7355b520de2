"""Run one batch of requests in a thread: predict, count out-of-range rows, and log the predictions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from mendel.durable import Clock
from mendel.errors import MendelError, ModelError, ModelFailed, ModelStopped, StoreUnavailable
from mendel.predictions import id_texts, mint_ids
from mendel.resilience import Fault, fault_of
from mendel.serving.batching import PendingRequest
from mendel.serving.ports import Backend, PredictionSink
from mendel.serving.prediction_records import ExecutedBatch, RecordedVersion, RequestOrigin, block_of
from mendel.serving.predictor import Outputs
from mendel.serving.response_format import Body
from mendel.serving.row_batches import Frame, assemble
from mendel.serving.training_ranges import TrainingRanges
from mendel.values import to_micros

_log = structlog.get_logger("mendel.models")


class Outcome(msgspec.Struct, frozen=True):
    """
    The result of one request of a batch.

    ``error`` is None when the model answered; otherwise the other fields except ``ood_rows`` are empty. ``ids`` is None
    when the rows were not logged.
    """

    predictions: list[Any]
    probabilities: list[list[float | None]] | None
    ids: list[str] | None
    ood_rows: int
    error: MendelError | None = None
    body: Body | None = None
    proba_body: Body | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """
    Executes the batches of one model version.

    Attributes:
        sink: The prediction log; None logs nothing.
        whose: Gives the version and the deployment generation that the log records for a batch; called once per batch,
            with True for copies sent to a shadow version. The generation may change while the version is loaded.
        steady: A monotonic clock in seconds, for latencies.
        required: When True, requests fail with StoreUnavailable if their rows cannot be logged.
        calling: Called with 1 before and with -1 after each call of the model, in the thread of the call.
    """

    backend: Backend
    reference: TrainingRanges | None
    sink: PredictionSink | None
    whose: Callable[[bool], RecordedVersion]
    clock: Clock
    steady: Callable[[], float]
    rng: random.Random
    required: bool = False
    calling: Callable[[int], None] = lambda _: None

    def __call__(self, tickets: Sequence[PendingRequest[Outcome]]) -> list[Outcome]:
        """
        Predict *tickets* in one model call; if the model raises, predict each request in a call of its own.

        A call that was ended, or that ended the model's process, is not repeated: each repetition could cost as much.
        """
        tickets[0].called = self.steady()
        frame = assemble([ticket.rows for ticket in tickets])
        outputs, failed = None, None
        try:
            outputs = self._predict(frame, max(ticket.deadline for ticket in tickets))
        except ModelError as error:
            failed = error
        if failed is not None and len(tickets) > 1 and not isinstance(failed, ModelStopped):
            return [outcome for ticket in tickets for outcome in self([ticket])]
        return self._answered(tickets, frame, outputs, failed)

    def _predict(self, frame: Frame, deadline: float) -> Outputs:
        self.calling(1)
        try:
            return self.backend.predict(frame, deadline)
        finally:
            self.calling(-1)

    def _answered(
        self,
        tickets: Sequence[PendingRequest[Outcome]],
        frame: Frame,
        outputs: Outputs | None,
        error: ModelError | None,
    ) -> list[Outcome]:
        ood = None if self.reference is None else self.reference.out_of_range(frame)
        ids = self._record(tickets, frame, outputs, None if error is None else self._logged(error, tickets), ood)
        if ids is None and self.required:
            refusal = StoreUnavailable(
                "The prediction log accepts no rows, and serving.logging_required is true.",
                remedy="Free disk space for the spool, or set serving.logging_required to false.",
            )
            return [_failed(refusal)] * len(tickets)
        if outputs is None:
            assert error is not None  # noqa: S101 - either outputs or error is set
            first = _failed(error, 0 if ood is None else int(ood.sum()))
            return [first, *([_failed(error)] * (len(tickets) - 1))]
        return _shares(tickets, outputs, ids, ood)

    def _logged(self, error: ModelError, tickets: Sequence[PendingRequest[Outcome]]) -> str:
        """
        Log *error*, and give its text for the prediction log.

        The message of an exception that the model raised may quote the row, which the log may have to hash or drop:
        only the caller gets it.
        """
        version = self.whose(tickets[0].shadow)
        cause = error.__cause__
        fault = _fault_of(error)
        _log.error(
            "model_fault",
            model=str.__str__(version.model),
            version=version.served.number,
            fault=fault.kind,
            at=fault.at,
            correlation_id=tickets[0].call.correlation_id or None,
        )
        if cause is None and not (isinstance(error, ModelFailed) and error.kind):
            return error.message
        return f"The model raised {fault.kind} at {fault.at.partition(' < ')[0]}."

    def _record(
        self,
        tickets: Sequence[PendingRequest[Outcome]],
        frame: Frame,
        outputs: Outputs | None,
        error: str | None,
        ood: NDArray[np.bool_] | None,
    ) -> list[str] | None:
        if self.sink is None:
            return None
        micros, now = to_micros(self.clock()), self.steady()
        ids = mint_ids(len(frame), micros=micros, randbytes=self.rng.randbytes)
        origins = [
            RequestOrigin(
                count=ticket.rows.count,
                door=ticket.call.door,
                correlation_id=ticket.call.correlation_id,
                event_micros=None if ticket.call.event_time is None else to_micros(ticket.call.event_time),
                latency_ms=(now - ticket.arrived) * 1000,
            )
            for ticket in tickets
        ]
        executed = ExecutedBatch(frame=frame, outputs=outputs, error=error, ood=ood, ids=ids, micros=micros)
        return id_texts(ids) if self.sink.append(block_of(self.whose(tickets[0].shadow), origins, executed)) else None


def _fault_of(error: ModelError) -> Fault:
    if isinstance(error, ModelFailed) and error.kind:  # raised in another process
        return Fault(kind=error.kind, at=error.at)
    return fault_of(error if error.__cause__ is None else error.__cause__)


def _failed(error: MendelError, ood_rows: int = 0) -> Outcome:
    return Outcome([], None, None, ood_rows, error)


def _shares(
    tickets: Sequence[PendingRequest[Outcome]], outputs: Outputs, ids: list[str] | None, ood: NDArray[np.bool_] | None
) -> list[Outcome]:
    if len(tickets) == 1:
        rows = 0 if ood is None else int(ood.sum())
        return [Outcome(outputs.predictions, outputs.probabilities, ids, rows, None, outputs.body, outputs.proba_body)]
    outcomes, start = [], 0
    flags = None if ood is None or not ood.any() else ood
    for ticket in tickets:
        end = start + ticket.rows.count
        outcomes.append(
            Outcome(
                outputs.predictions[start:end],
                None if outputs.probabilities is None else outputs.probabilities[start:end],
                None if ids is None else ids[start:end],
                0 if flags is None else int(flags[start:end].sum()),
            )
        )
        start = end
    return outcomes
