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


REMEDIES: Mapping[Cause, str] = {
    Cause.FAULTS: "model_rollback",
    Cause.LATENCY: "model_rollback",
    Cause.REGRESSION: "model_rollback",
    Cause.LOAD_FAILURE: "model_rollback",
    Cause.CANARY_LOAD_FAILURE: "end_canary",
    Cause.NOT_CONVERGING: "notify",
    Cause.DRIFT: "retrain",
    Cause.QUALITY: "retrain",
    Cause.OOD: "retrain",
    Cause.SERVERS: "notify",
}
"""The default playbook for each cause."""

_PROFILES = ("default", "classic")
NO_REMEDY = "none"
"""The remedy of a cause that healing only observes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealingPolicy:
    """
    The section ``healing`` of a policy.

    Attributes:
        remedies: The playbook for each cause, if it differs from the default remedy; ``none`` starts no playbook.
        cooldown: How long after a run's end no other run starts on the model. A rollback does not wait, unless another
            rollback put the serving version into production within this time (flap damping).
        max_runs_per_day: The largest number of runs of one model within 24 hours; runs that change nothing, such as
            ``notify``, are not counted.
        bake: How long after its promotion a version counts as new. A new version counts as faulty if it cannot be
            loaded, or if its quality is low from its first rows on.
        quality_floor: The worst allowed value of the primary metric; None compares only with the version's quality at
            registration (``monitoring.quality_margin``).
        converge_within: How long a server may take to serve a deployment that it has received.
        effect_within: How long a signal may take to go away after a playbook changed something.
        profile: With ``classic``, the remedy for every cause is a rollback, except for causes about servers and
            canaries; with ``default``, each cause has its own remedy.
    """

    autonomy: Autonomy = field(default_factory=Autonomy)
    remedies: dict[str, str] = field(default_factory=dict)
    cooldown: timedelta = timedelta(minutes=30)
    max_runs_per_day: int = 4
    bake: timedelta = timedelta(hours=24)
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

    def remedy(self, cause: Cause) -> str | None:
        """The playbook for *cause*; None if healing only observes."""
        classic = self.profile == "classic" and cause.family not in {"servers", "canary"}
        default = "model_rollback" if classic else REMEDIES[cause]
        name = self.remedies.get(cause.value, default)
        return None if name == NO_REMEDY else name

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> HealingPolicy:
        """
        Read the section ``healing`` of a policy document; without the section, every default applies.

        The profile may also be set in the section ``rollback``.
        """
        beside = {key: value for key, value in (body.get("rollback") or {}).items() if key == "profile"}
        return from_mapping(cls, {**beside, **(body.get("healing") or {})}, at="healing")
