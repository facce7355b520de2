"""How the actions of a playbook become durable steps: tried, tried again, waited for, and never done twice."""

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
    An action that cannot be done; ends the run, and is recorded there.

    ``held`` tells that a person could clear what stands in the way.
    """

    def __init__(self, why: str, *, held: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.held = held


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an action did: in words, and as facts for later conditions."""

    text: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing:
    """
    One step of one run, as its action sees it.

    Attributes:
        name: Unique within the run; names of durable steps and step keys start with it.
        facts: What earlier steps left.
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
        """Names the one change that this step makes, whatever part of the run carries it."""
        return StepKey(workflow_id=self.run.id, step=self.name)

    def once(self, label: str, act: Callable[[], Payload]) -> Payload:
        """
        Run *act* as a durable step; while something is unavailable, again, with growing pauses, as often as the
        playbook says.

        Raises:
            Refused: It was refused, or stayed unavailable.
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
        raise Refused(f"{name} was never tried.")

    def until(self, look: Callable[[], Payload], *, within: timedelta, longest: timedelta) -> Payload:
        """
        Look until ``look()["over"]``, each look a durable step; gives the last one.

        Looks are frequent at first, for what passes quickly, and then further apart: up to *longest*, or a fortieth of
        *within*.
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
    """A run within a run: the same workflow, its steps under a name of their own."""

    run: WorkflowContext
    prefix: str

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self.run.id

    def step(self, name: str, act: Callable[[], Payload]) -> Payload:
        """Run *act* under the prefixed name."""
        return self.run.step(f"{self.prefix} {name}", act)

    def sleep(self, name: str, span: timedelta) -> None:
        """Wait under the prefixed name."""
        self.run.sleep(f"{self.prefix} {name}", span)


def _attempted(act: Callable[[], Payload]) -> Payload:
    """Do it, and give what stands against it as a value: exceptions do not survive every workflow engine unchanged."""
    try:
        return {"done": act()}
    except Fenced:
        raise
    except Unavailable as error:
        return {"refused": str(error), "again": True, "held": False}
    except MendelError as error:
        return {"refused": str(error), "again": False, "held": isinstance(error, PromotionRefused)}
