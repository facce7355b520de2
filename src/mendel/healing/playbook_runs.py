"""The runs of playbooks: how far each is, and what its steps did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mendel.healing.playbooks import Playbook
from mendel.values import VersionRef


class RunState(StrEnum):
    """
    How far the run of a playbook is.

    ``proposed`` never started; ``held`` stopped before a step until somebody approves it, or healing is resumed.
    ``undecided`` lacked evidence to judge its candidate, and may be tried again; ``declined`` by a person.
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
        """Whether nothing more will happen in it."""
        return self not in {RunState.PROPOSED, RunState.RUNNING, RunState.HELD}

    @property
    def waiting(self) -> bool:
        """Whether it goes on only when a person approves it, or healing is resumed."""
        return self in {RunState.PROPOSED, RunState.HELD}

    @property
    def unhelpful(self) -> bool:
        """Whether it ended without mending what it was started for."""
        return self in {RunState.INEFFECTIVE, RunState.REJECTED, RunState.FAILED}


class StepState(StrEnum):
    """How one step of a run ended."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """How one step ended; ``facts`` are what later conditions may ask about, ``held_for`` what it waits for."""

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
        id: ``<incident>-<n>``, or ``RUN-<year>-<n>`` for one that a person or a schedule asked for.
        playbook: Its name; ``document`` is the playbook as it stood when the run was made, so that a resumed run
            follows the same steps.
        policy: The healing section of the policy at that time, as written.
        part: Which workflow carries it: each approval of a held step starts the next part.
        held_at: Index of the step it waits before.
        held_for: What it waits for: ``approval`` or ``resume``.
        approved_step: Index of the step that was approved last.
        facts: The outcomes' facts together, newest wins.
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
        """The id of the workflow that carries the present part."""
        return self.id if self.part == 1 else f"{self.id}.{self.part}"
