"""Execute a playbook's actions as durable steps with retries, polling and at most one change each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from mendel.durable import Payload, StepKey, WorkflowContext
from mendel.errors import Fenced, MendelError, PromotionRefused, Unavailable
from mendel.healing.entities import (
    Incident,
)
from mendel.healing.playbook_runs import (
    PlaybookRun,
)
from mendel.healing.playbooks import Step
from mendel.healing.policy import HealingPolicy

_FIRST_PAUSE = timedelta(milliseconds=200)
_LONGEST_PAUSE = timedelta(seconds=15)
_SHORTEST_WAIT = timedelta(milliseconds=50)


class Refused(Exception):
    """
    An action cannot be executed; the error is stored with the step and ends the run.

    If ``held`` is true, a person can remove the obstacle, and the run is held instead.
    """

    def __init__(self, why: str, *, held: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.held = held


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The result of an action: a text for users, and facts for the conditions of later steps."""

    text: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing:
    """
    A step of a run, as passed to the action.

    Attributes:
        name: Unique within the run; names of durable steps and step keys start with it.
        facts: The facts of earlier steps.
    """

    durable: WorkflowContext
    run: PlaybookRun
    incident: Incident | None
    policy: HealingPolicy
    step: Step
    name: str
    facts: dict[str, Any]

    @property
    def key(self) -> StepKey:
        """The key that makes the change of this step happen once, equal in every part of the run."""
        return StepKey(workflow_id=self.run.id, step=self.name)

    def once(self, label: str, act: Callable[[], Payload]) -> Payload:
        """
        Run *act* as a durable step; retry with growing pauses, up to the playbook's ``retries``, while a service is
        unavailable.

        Raises:
            Refused: *act* was refused, or its service stayed unavailable.
        """
        name = f"{self.name} {label}".strip()
        for attempt in range(self.step.retries + 1):
            suffix = f" again {attempt}" if attempt else ""
            answer = self.durable.step(f"{name}{suffix}", lambda: _attempted(act))
            if "done" in answer:
                done: Payload = answer["done"]
                return done
            if not answer["again"] or attempt == self.step.retries:
                raise Refused(answer["refused"], held=answer["held"])
            self.durable.sleep(f"{name} pause {attempt}", min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE))
        raise Refused(f"The step {name} was never attempted, because its number of retries is below 0.")

    def until(self, look: Callable[[], Payload], *, within: timedelta, longest: timedelta) -> Payload:
        """
        Call *look* as a durable step until its result says ``over``; return that result.

        The pauses between calls grow from a 600th of *within* up to *longest*, or to a 40th of *within* if that is
        shorter.
        """
        longest = max(_SHORTEST_WAIT, min(longest, within / 40))
        count, pause = 0, max(_SHORTEST_WAIT, within / 600)
        while True:
            seen = self.once(f"look {count}", look)
            if seen["over"]:
                return seen
            self.durable.sleep(f"{self.name} wait {count}", min(pause, longest))
            count, pause = count + 1, min(pause * 1.5, longest)


@dataclass(frozen=True, slots=True)
class Prefixed:
    """Runs a workflow inside a playbook's workflow, with a prefix before all step names."""

    run: WorkflowContext
    prefix: str

    @property
    def id(self) -> str:
        return self.run.id

    def step(self, name: str, act: Callable[[], Payload]) -> Payload:
        """Run *act* as a durable step, whose name is ``prefix`` and then *name*."""
        return self.run.step(f"{self.prefix} {name}", act)

    def sleep(self, name: str, span: timedelta) -> None:
        """Sleep for *span* as a durable step, whose name is ``prefix`` and then *name*."""
        self.run.sleep(f"{self.prefix} {name}", span)


def _attempted(act: Callable[[], Payload]) -> Payload:
    """Run *act* and return its error as a value: not every workflow engine keeps exceptions unchanged."""
    try:
        return {"done": act()}
    except Fenced:
        raise
    except Unavailable as error:
        return {"refused": str(error), "again": True, "held": False}
    except MendelError as error:
        return {"refused": str(error), "again": False, "held": isinstance(error, PromotionRefused)}
