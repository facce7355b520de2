"""Turn the outcomes of requests into answers or errors, and count the requests that have neither yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.errors import ModelError, ModelFailed
from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.entities import Answered, AnswerMetadata, InferenceAnswer
from mendel.values import VersionRef

Done = Callable[[Sequence[Answered]], None]
Delivered = Sequence[tuple[PendingRequest[Outcome], Outcome | BaseException]]


class InFlight:
    """Counts the requests of one kernel that were accepted and not answered yet; use it on the event loop only."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def enter(self, count: int) -> None:
        """Count *count* more requests."""
        self.count += count
        self._none.clear()

    def leave(self, count: int) -> None:
        """Count *count* requests less."""
        self.count -= count
        if not self.count:
            self._none.set()

    async def none(self) -> None:
        """Wait until every accepted request has its answer."""
        await self._none.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """
    Builds the answers of one batch.

    Attributes:
        at: The time of the answers.
        now: The second of the monotonic clock at that time.
    """

    ref: VersionRef
    metadata: AnswerMetadata
    at: datetime
    now: float

    def by_door(self, delivered: Delivered) -> dict[Done, list[Answered]]:
        """Build the answers of the requests *delivered*, grouped by the callback that receives them."""
        return by_door((ticket, self._result(ticket, outcome)) for ticket, outcome in delivered)

    def _result(self, ticket: PendingRequest[Outcome], outcome: Outcome | BaseException) -> InferenceAnswer | Exception:
        error = outcome.error if isinstance(outcome, Outcome) else outcome
        if error is None:
            assert isinstance(outcome, Outcome)  # noqa: S101 - only an outcome has no error
            return InferenceAnswer(
                metadata=self.metadata,
                predictions=outcome.predictions,
                probabilities=outcome.probabilities,
                prediction_ids=outcome.ids,
                correlation_id=ticket.call.correlation_id,
                at=self.at,
                took=timedelta(seconds=self.now - ticket.arrived),
                fallback=ticket.fallback,
                body=outcome.body,
                proba_body=outcome.proba_body,
            )
        if isinstance(error, ModelError):
            failure = ModelFailed(f"{self.ref}: {error.message}", remedy=error.remedy)
            failure.__cause__ = error
            return failure
        return error if isinstance(error, Exception) else RuntimeError(f"A batch ended with {type(error).__name__}.")


def by_door(
    results: Iterable[tuple[PendingRequest[Outcome], InferenceAnswer | Exception]],
) -> dict[Done, list[Answered]]:
    """Group answers and errors by the callback that receives them, in order."""
    groups: dict[Done, list[Answered]] = {}
    for ticket, result in results:
        if ticket.done is not None:
            group = groups.get(ticket.done)
            if group is None:
                groups[ticket.done] = [(ticket.call, result)]
            else:
                group.append((ticket.call, result))
    return groups
