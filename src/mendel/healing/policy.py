"""The ``healing`` section of a policy: autonomy, remedies and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from mendel.errors import InvalidPolicy
from mendel.healing.entities import Cause
from mendel.values import from_mapping, unknown_key_message


class Level(StrEnum):
    """A level of autonomy, lowest first."""

    OBSERVE = "observe"
    PROPOSE = "propose"
    ACT = "act"

    @property
    def rank(self) -> int:
        """The rank of the level: 0 for observe, 1 for propose, 2 for act."""
        return list(Level).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Autonomy:
    """
    The level of autonomy for each kind of change.

    A retraining changes nothing that is served until its candidate is promoted, so ``retrain: propose`` already trains
    the candidate. Healing promotes the candidate if ``retrain`` and ``promote`` are both ``act``, else proposes it.
    """

    rollback: Level = Level.ACT
    retrain: Level = Level.PROPOSE
    promote: Level = Level.PROPOSE
    notify: Level = Level.ACT

    def of(self, key: str) -> Level:
        """The level for *key*, one of the field names."""
        if key == "promote":
            return min(self.retrain, self.promote, key=lambda level: level.rank)
        level: Level = getattr(self, key)
        return level


ROLLBACK, RETRAIN, NOTIFY, REPLAY, END_CANARY = "model_rollback", "retrain", "notify", "replay_former", "end_canary"
"""The shipped playbooks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """
    The default playbooks for one cause.

    Attributes:
        at_once: The playbook that needs no replay of the former version, if any.
        in_bake: The playbook that needs no replay while the version is new (``healing.bake``), if any.
        as_bad: The playbook if the former version does no better on the incident's own rows; if it does better, the
            model is rolled back, and without a result of the replay, ``notify`` is started.
    """

    at_once: str | None = None
    in_bake: str | None = None
    as_bad: str = NOTIFY


REMEDIES: Mapping[Cause, Remedies] = {
    Cause.FAULTS: Remedies(in_bake=ROLLBACK),
    Cause.LATENCY: Remedies(in_bake=ROLLBACK),
    Cause.REGRESSION: Remedies(as_bad=RETRAIN),
    Cause.LOAD_FAILURE: Remedies(at_once=ROLLBACK),
    Cause.CANARY_LOAD_FAILURE: Remedies(at_once=END_CANARY),
    Cause.NOT_CONVERGING: Remedies(at_once=NOTIFY),
    Cause.DRIFT: Remedies(as_bad=RETRAIN),
    Cause.QUALITY: Remedies(as_bad=RETRAIN),
    Cause.OOD: Remedies(as_bad=RETRAIN),
    Cause.SERVERS: Remedies(at_once=NOTIFY),
}
"""The default playbooks for each cause."""

_PROFILES = ("default", "classic")
NO_REMEDY = "none"
"""The remedy of a cause that healing only observes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealingPolicy:
    """
    The section ``healing`` of a policy.

    Attributes:
        remedies: The playbook for each cause, started without a replay, in place of the default remedy; ``none`` starts
            no playbook.
        cooldown: How long after a run's end no other run starts on the model; a rollback does not wait.
        max_runs_per_day: The largest number of rollbacks, and of retrainings, of one model within 24 hours; each kind
            is counted for itself, and runs that change nothing, such as ``notify``, are not counted.
        bake: How long a version counts as new: for this time in production, errors, latency and failures to load roll
            back at once, without a replay of the former version. A version that a rollback by healing returned to
            production is not rolled back for this time either.
        replay_within: How long the former version may take to answer the incident's rows; without a result in this
            time, healing notifies.
        quality_floor: The worst allowed value of the primary metric; None compares only with the version's quality at
            registration (``monitoring.quality_margin``).
        converge_within: How long a server may take to serve a deployment that it has received.
        effect_within: How long a signal may take to go away after a playbook changed something.
        profile: With ``classic``, the remedy for every cause is a rollback without a replay, except for causes about
            servers and canaries and for drift in the warning band; with ``default``, each cause has its own remedy.
    """

    autonomy: Autonomy = field(default_factory=Autonomy)
    remedies: dict[str, str] = field(default_factory=dict)
    cooldown: timedelta = timedelta(minutes=30)
    max_runs_per_day: int = 4
    bake: timedelta = timedelta(hours=24)
    replay_within: timedelta = timedelta(seconds=60)
    quality_floor: float | None = None
    converge_within: timedelta = timedelta(seconds=30)
    effect_within: timedelta = timedelta(minutes=10)
    profile: str = "default"

    def __post_init__(self) -> None:
        if self.profile not in _PROFILES:
            raise InvalidPolicy(f"healing.profile is {self.profile!r}, but must be one of {', '.join(_PROFILES)}")
        causes = [cause.value for cause in Cause]
        for key in self.remedies:
            if key not in causes:
                raise InvalidPolicy(unknown_key_message(key, causes, "remedies"))
        if self.max_runs_per_day < 0:
            raise InvalidPolicy("healing.max_runs_per_day must be at least 0")
        if self.replay_within <= timedelta(0):
            raise InvalidPolicy("healing.replay_within must be longer than 0")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> HealingPolicy:
        """
        Read the section ``healing`` of a policy document; without the section, every default applies.

        The profile may also be set in the section ``rollback``.
        """
        beside = {key: value for key, value in (body.get("rollback") or {}).items() if key == "profile"}
        return from_mapping(cls, {**beside, **(body.get("healing") or {})}, at="healing")
