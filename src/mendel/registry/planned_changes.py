"""Changes that wait for their time: promotions at a set time, and canaries that grow in steps; and their store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mendel.values import ModelName, VersionRef


class WaitingState(StrEnum):
    """The state of a planned promotion; only ``waiting`` is not final."""

    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPromotion:
    """
    A promotion that a hub carries out at ``at``, or at the first later time that the policy allows.

    Attributes:
        by: The principal who asked; the promotion is carried out in this name.
        override: The reason to promote without a passing gate report; None requires a passing report.
        expected_generation: The generation that the deployment must have then; None allows any.
        until: When it will be carried out as things stand; None if it is over, or if the policy allows no time.
        why: Why it waits, or how it ended.
        ended_at: None while it waits.
    """

    id: str
    ref: VersionRef
    at: datetime
    by: str
    requested_at: datetime
    reason: str = ""
    override: str | None = None
    expected_generation: int | None = None
    state: WaitingState = WaitingState.WAITING
    until: datetime | None = None
    why: str = ""
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRun:
    """
    A canary whose share grows in steps.

    Attributes:
        steps: The shares of the traffic, each a fraction in (0, 1), growing.
        step: The index of the current share in ``steps``.
        step_began: When the current step began; both routes are compared from then on.
        by: The principal who began the canary.
    """

    ref: VersionRef
    steps: tuple[float, ...]
    step: int = 0
    began: datetime
    step_began: datetime
    by: str

    @property
    def share(self) -> float:
        """The share of the traffic in the current step."""
        return self.steps[self.step]

    @property
    def is_last(self) -> bool:
        """Whether the version is promoted after this step."""
        return self.step + 1 == len(self.steps)


class PlannedChanges(Protocol):
    """The planned changes, at most one of each kind per model (``tx.store(PlannedChanges)``)."""

    def promotion(self, model: ModelName) -> WaitingPromotion | None:
        """Find the last planned promotion of *model*, whatever its state; None if none was ever planned."""

    def promotions(self, *, waiting: bool) -> tuple[WaitingPromotion, ...]:
        """Give the last planned promotion of every model, by model; with *waiting*, only those that wait."""

    def put_promotion(self, promotion: WaitingPromotion) -> None:
        """Write *promotion*, replacing the last one of its model."""

    def canary_run(self, model: ModelName) -> CanaryRun | None:
        """Find the canary of *model* that grows in steps; None if there is none."""

    def canary_runs(self) -> tuple[CanaryRun, ...]:
        """Give every canary that grows in steps, by model."""

    def put_canary_run(self, run: CanaryRun) -> None:
        """Write *run*, replacing the one of its model."""

    def drop_canary_run(self, model: ModelName) -> None:
        """Delete the run of *model*; no error if there is none."""
