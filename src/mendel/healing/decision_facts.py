"""The facts that a decision about an incident needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.healing.entities import Pause
from mendel.healing.playbook_runs import PlaybookRun
from mendel.healing.playbooks import Playbook
from mendel.retraining import LabelSupply


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    The facts that a decision needs besides the incident and the policy.

    Attributes:
        playbook: The remedy's playbook; None if the cause has none or no playbook has that name.
        pause: The pause of healing that applies to this model, if any.
        runs: Runs of this model, of any incident: at least those unfinished and those of the last day and cooldown.
        tried: Runs started for this incident.
        return_to: The version a rollback would bring back; None if no former version can serve.
        served_for: How long the incident's version had been in production when the question of the incident arose, over
            all its periods; None if it never was.
        placed_by_rollback: When a rollback by healing put the incident's version into production, if one did.
        last_change: When the model's production version last changed.
        supply: The labels that a retraining could use; None if the remedy does not retrain.
    """

    policy_hash: str
    playbook: Playbook | None = None
    pause: Pause | None = None
    runs: tuple[PlaybookRun, ...] = ()
    tried: tuple[PlaybookRun, ...] = ()
    return_to: int | None = None
    served_for: timedelta | None = None
    placed_by_rollback: datetime | None = None
    last_change: datetime | None = None
    supply: LabelSupply | None = None
