"""What healing speaks of: signals, causes, incidents and the runs of playbooks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from mendel.values import ModelName, Severity, VersionRef


class SignalKind(StrEnum):
    """Which reading crossed its bound."""

    FAULTS = "faults"
    LATENCY = "latency"
    OOD = "ood"
    DRIFT = "drift"
    QUALITY = "quality"
    LOAD_FAILURE = "load_failure"
    NOT_CONVERGING = "not_converging"
    UNAVAILABLE = "unavailable"


class Cause(StrEnum):
    """
    Why, as far as the evidence tells; it decides the remedy.

    ``regression`` is quality that is low only since this version; ``quality`` is quality that fell while it served.
    ``servers`` are servers that fail at a version they have served before, which no other version would mend.
    """

    FAULTS = "faults"
    LATENCY = "latency"
    REGRESSION = "regression"
    LOAD_FAILURE = "load_failure"
    NOT_CONVERGING = "not_converging"
    DRIFT = "drift"
    QUALITY = "quality"
    OOD = "ood"
    SERVERS = "servers"

    @property
    def family(self) -> str:
        """
        What is at fault: the ``version``, the ``world`` or the ``servers``.

        Signals of one family on one version are one incident, whichever came first.
        """
        if self in {Cause.DRIFT, Cause.QUALITY, Cause.OOD}:
            return "world"
        return "servers" if self is Cause.SERVERS else "version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    What was seen when a signal was raised.

    Attributes:
        policy_hash: The policy whose bound was crossed.
        digests: Digests of the profiles or reports that were read.
        readings: Values by name; numbers, texts and short lists only, never features of anybody.
        generation: The deployment's generation at that time.
    """

    policy_hash: str
    digests: tuple[str, ...] = ()
    readings: dict[str, Any]
    generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """
    A reading that crossed a policy's bound.

    Attributes:
        reasons: The crossing in words, one sentence each.
        since: When the change began, as far as the evidence tells.
        only_since_version: For quality: low from this version's first labelled rows on, on inputs that have not moved.
    """

    kind: SignalKind
    ref: VersionRef
    severity: Severity
    at: datetime
    reasons: tuple[str, ...]
    evidence: Evidence
    since: datetime | None = None
    only_since_version: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at, in words fit to show, whether it crossed a bound or not."""

    kind: SignalKind
    text: str
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LookResult:
    """
    What one look at a model found, nothing included.

    Attributes:
        ref: The version in production; None when nothing serves.
        looked: Everything that was examined, with its reading or why there is none.
        clear: Kinds that were measured and are within bounds: incidents of these kinds have lost their signal.
    """

    model: ModelName
    ref: VersionRef | None
    at: datetime
    looked: tuple[Finding, ...] = ()
    signals: tuple[Signal, ...] = ()
    clear: tuple[SignalKind, ...] = ()

    @property
    def nothing_to_do(self) -> str | None:
        """Why nothing needs to be done, in one sentence; None when there are signals."""
        if self.signals:
            return None
        if self.ref is None:
            return f"{self.model}: no version is in production."
        told = "; ".join(one.text for one in self.looked) or "nothing could be measured yet"
        return f"{self.ref}: nothing to do, because {told}."


class EffectState(StrEnum):
    """What became of an incident's signals after something was changed."""

    GONE = "gone"
    PERSISTS = "persists"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Whether a change helped, and the readings that say so."""

    state: EffectState
    text: str


class IncidentStatus(StrEnum):
    """How far an incident is."""

    OPEN = "open"
    INVESTIGATING = "investigating"
    MITIGATING = "mitigating"
    RESOLVED = "resolved"
    CLOSED = "closed"

    @property
    def unresolved(self) -> bool:
        """Whether the question is still open."""
        return self not in {IncidentStatus.RESOLVED, IncidentStatus.CLOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One thing that happened to an incident."""

    at: datetime
    kind: str
    text: str
    actor: str = "healing"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentContext:
    """What the incident stood in when it was opened."""

    model_version: str
    stage: str
    reasons: tuple[str, ...]
    avg_error_rate: float | None = None
    avg_ood_rate: float | None = None
    window_minutes: float | None = None
    policy_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """
    An open question about one model version.

    Attributes:
        cause: The first cause seen; later signals of its family join.
        kinds: Every kind of signal that joined.
        repeats: How often a signal joined after the first.
        last_seen: When a signal was last seen.
        since: When the change began, as far as the evidence tells: what a training shall learn from came after it.
        escalated: Healing has nothing left to try and asks for a person.
    """

    id: str
    ref: VersionRef
    cause: Cause
    severity: Severity
    title: str
    description: str
    context: IncidentContext
    opened_at: datetime
    last_seen: datetime
    kinds: tuple[SignalKind, ...]
    evidence: tuple[Evidence, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    status: IncidentStatus = IncidentStatus.OPEN
    repeats: int = 0
    escalated: bool = False
    resolved_at: datetime | None = None
    since: datetime | None = None
    source: str = "mendel.monitor"
    resource_type: str = "ml_model"

    @property
    def resource_id(self) -> str:
        """The version in question, ``<name>/<version>``."""
        return f"{self.ref.model}/{self.ref.number}"

    def noting(self, entry: TimelineEntry) -> Incident:
        """The same incident with *entry* at the end of its timeline."""
        return replace(self, timeline=(*self.timeline, entry))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The kill switch, on: for one model, or for all (``model`` None)."""

    model: ModelName | None
    by: str
    at: datetime
    reason: str
