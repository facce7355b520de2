"""Runs of playbooks, with their states and the outcomes of their steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mendel.healing.playbooks import Playbook
from mendel.values import VersionRef


class RunState(StrEnum):
    """
    The state of a playbook's run.

    ``proposed``: not started; ``held``: waits before a step until a person approves or healing is resumed.
    ``undecided``: the gates lacked evidence about the run's candidate, and the playbook may be tried again;
    ``declined``: ended by a person.
    """

    PROPOSED = "proposed"
    RUNNING = "running"
    HELD = "held"
    SUCCEEDED = "succeeded"
    INEFFECTIVE = "ineffective"
    REJECTED = "rejected"
    UNDECIDED = "undecided"
    DECLINED = "declined"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self not in {RunState.PROPOSED, RunState.RUNNING, RunState.HELD}

    @property
    def waiting(self) -> bool:
        """Whether the run waits until a person approves or healing is resumed."""
        return self in {RunState.PROPOSED, RunState.HELD}

    @property
    def unhelpful(self) -> bool:
        """Whether the run ended without solving its incident."""
        return self in {RunState.INEFFECTIVE, RunState.REJECTED, RunState.FAILED}


class StepState(StrEnum):
    """The state in which one step of a run ended."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """The outcome of one step: ``facts`` for later conditions, and ``held_for``, the reason why a held step waits."""

    name: str
    action: str
    state: StepState
    text: str
    facts: dict[str, Any]
    at: datetime
    held_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybookRun:
    """
    One run of a playbook.

    Attributes:
        id: ``<incident>-<n>``, or ``RUN-<year>-<n>`` for a run that a person or a schedule started.
        playbook: Name of the playbook; ``document`` is the playbook when the run was made, so that a resumed run
            follows the same steps.
        policy: The section ``healing`` of the policy at that time, as written.
        part: The number of the run's current workflow; each approval of a held step starts another workflow.
        held_at: Index of the step before which the run waits.
        held_for: The wait of a held run: ``approval`` or ``resume``.
        approved_step: Index of the step that was approved last.
        facts: The facts of all outcomes; the newest value of a fact wins.
    """

    id: str
    incident: str | None
    ref: VersionRef
    playbook: str
    document: Playbook
    policy: dict[str, Any]
    policy_hash: str
    state: RunState
    created_at: datetime
    reason: str
    steps: tuple[StepOutcome, ...] = ()
    facts: dict[str, Any]
    part: int = 1
    held_at: int = 0
    held_for: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    approved_by: str | None = None
    approved_step: int | None = None

    @property
    def workflow_id(self) -> str:
        """The id of the workflow of the current part."""
        return self.id if self.part == 1 else f"{self.id}.{self.part}"
