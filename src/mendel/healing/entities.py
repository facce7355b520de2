"""The entities of healing: signals, causes, evidence, incidents and pauses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from mendel.values import ModelName, Severity, VersionRef


class SignalKind(StrEnum):
    """
    The kind of reading that crossed its bound.

    ``drift`` is found by the study of the prediction log, ``drift_score`` in snapshots (their KL divergence); each is
    cleared only by the check that found it.
    """

    FAULTS = "faults"
    LATENCY = "latency"
    OOD = "ood"
    DRIFT = "drift"
    DRIFT_SCORE = "drift_score"
    QUALITY = "quality"
    LOAD_FAILURE = "load_failure"
    NOT_CONVERGING = "not_converging"
    UNAVAILABLE = "unavailable"


class Cause(StrEnum):
    """
    The cause of an incident, as far as the evidence shows; the cause decides the remedy.

    ``regression``: quality is low since this version; ``quality``: quality fell while the version served.
    ``not_converging``: a server received a deployment and does not serve it in time, and no server showed that the
    version failed.
    ``canary_load_failure``: the canary cannot be loaded; the production version serves.
    ``servers``: servers fail to load a version that they served before, or do not report; another version would not
    help.
    """

    FAULTS = "faults"
    LATENCY = "latency"
    REGRESSION = "regression"
    LOAD_FAILURE = "load_failure"
    CANARY_LOAD_FAILURE = "canary_load_failure"
    NOT_CONVERGING = "not_converging"
    DRIFT = "drift"
    QUALITY = "quality"
    OOD = "ood"
    SERVERS = "servers"

    @property
    def family(self) -> str:
        """
        The family of the cause: a fault of the ``version`` or of the ``canary``, a change of the data (``world``), or a
        fault of ``servers``.

        Signals of one family about one version belong to one incident, in whatever order they arrive. Signals of
        one kind about one server belong to one incident, whatever version they concern.
        """
        if self in {Cause.DRIFT, Cause.QUALITY, Cause.OOD}:
            return "world"
        if self is Cause.CANARY_LOAD_FAILURE:
            return "canary"
        return "servers" if self in {Cause.NOT_CONVERGING, Cause.SERVERS} else "version"

    @property
    def may_retrain(self) -> bool:
        """Whether a retraining may be the remedy, so that healing counts the labels."""
        return self.family == "world" or self is Cause.REGRESSION

    @property
    def rank(self) -> int:
        """The place of the cause in the order in which an incident is named after it: the smallest wins."""
        return list(Cause).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    The evidence for a signal at the time it was raised.

    Attributes:
        policy_hash: The policy whose bound was crossed.
        digests: Digests of the profiles or reports that were read.
        readings: Values by name: numbers, texts and short lists, never the features of a prediction.
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
        reasons: One sentence for each bound that was crossed.
        since: When the change began, as far as the evidence shows.
        only_since_version: For quality: low since this version's first labelled rows, while its inputs did not drift.
        served_before: For a failure to load: servers have served the version.
        ended_workers: For a failure to load: a server refuses the version because its calls ended worker processes.
        server: The server that the signal is about; None if it is about the version.
    """

    kind: SignalKind
    ref: VersionRef
    severity: Severity
    at: datetime
    reasons: tuple[str, ...]
    evidence: Evidence
    since: datetime | None = None
    only_since_version: bool = False
    served_before: bool = False
    ended_workers: bool = False
    server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reading of a check of a model, as a text for users, whether or not it crossed its bound."""

    kind: SignalKind
    text: str
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LookResult:
    """
    The result of one check of a model.

    Attributes:
        ref: The version in production; None if no version is in production.
        canary: The version that gets a share of the traffic beside ``ref``; None if the model has no canary.
        looked: Every reading, or the reason why it is missing.
        clear: Kinds that were measured within bounds: the signals of incidents of these kinds are gone.
        well: The servers that serve every deployment in time, or were stopped.
        next_study: When the hub studies drift and quality next; None for a check of the counters alone.
    """

    model: ModelName
    ref: VersionRef | None
    at: datetime
    canary: VersionRef | None = None
    looked: tuple[Finding, ...] = ()
    signals: tuple[Signal, ...] = ()
    clear: tuple[SignalKind, ...] = ()
    well: tuple[str, ...] = ()
    next_study: datetime | None = None

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
    """The state of an incident's signals after a playbook changed something."""

    GONE = "gone"
    PERSISTS = "persists"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Whether a change helped, and the readings that show it."""

    state: EffectState
    text: str


class IncidentStatus(StrEnum):
    """The status of an incident."""

    OPEN = "open"
    INVESTIGATING = "investigating"
    MITIGATING = "mitigating"
    RESOLVED = "resolved"
    CLOSED = "closed"

    @property
    def unresolved(self) -> bool:
        """Whether the incident is neither resolved nor closed."""
        return self not in {IncidentStatus.RESOLVED, IncidentStatus.CLOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One entry of an incident's timeline."""

    at: datetime
    kind: str
    text: str
    actor: str = "healing"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentContext:
    """The circumstances of an incident when it was opened."""

    model_version: str
    stage: str
    reasons: tuple[str, ...]
    avg_error_rate: float | None = None
    avg_ood_rate: float | None = None
    window_minutes: float | None = None
    policy_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalState:
    """
    The state of one kind of signal of an incident.

    Attributes:
        severity: The worst severity of its signals.
        raised_at: Time of the newest signal.
        cleared_at: When the reading was last found to be back within its bound; None if it never was.
    """

    kind: SignalKind
    severity: Severity
    raised_at: datetime
    cleared_at: datetime | None = None

    @property
    def clear(self) -> bool:
        """Whether the reading was within its bound after the newest signal."""
        return self.cleared_at is not None and self.cleared_at >= self.raised_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """
    A problem of one model version, or of a server that does not serve its versions.

    Attributes:
        server: The server with the problem; ``ref`` is then the first version that the server does not serve. None for
            a problem of the version ``ref``.
        cause: The first cause in the order of :class:`Cause` of all signals of the incident.
        kinds: The kinds of all signals of the incident.
        states: The state of each kind of signal; empty in incidents of older versions of Mendel.
        resource_id: The server that the incident is about, else the version as ``<name>/<version>``.
        repeats: How often further signals joined the incident.
        last_seen: Time of the newest signal.
        since: When the change began, as far as the evidence shows; a retraining learns from the rows after it.
        escalated: Healing has nothing left to try; a person must decide.
        reopened_at: When a new or worse cause, or a new promotion of the version, last made the decision open again;
            runs that were made before no longer count. None if that never happened.
        unmeasured_since: When a playbook changed what is served, if its effect has not been measured yet.
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
    states: tuple[SignalState, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    status: IncidentStatus = IncidentStatus.OPEN
    repeats: int = 0
    escalated: bool = False
    resolved_at: datetime | None = None
    since: datetime | None = None
    source: str = "mendel.monitor"
    resource_type: str = "ml_model"
    resource_id: str = ""
    server: str | None = None
    reopened_at: datetime | None = None
    unmeasured_since: datetime | None = None

    @property
    def signal_states(self) -> tuple[SignalState, ...]:
        """The state of each kind of signal, also for an incident of an older version of Mendel."""
        known = {state.kind: state for state in self.states}
        return tuple(
            known.get(kind) or SignalState(kind=kind, severity=self.severity, raised_at=self.last_seen)
            for kind in self.kinds
        )

    @property
    def evidence_severity(self) -> Severity:
        """The worst severity of the incident's signals; an escalation does not raise it."""
        return max((state.severity for state in self.signal_states), key=lambda severity: severity.rank)

    @property
    def asked_at(self) -> datetime:
        """The time of the question that is decided: when the incident was opened, or last reopened."""
        return self.reopened_at or self.opened_at

    def __post_init__(self) -> None:
        object.__setattr__(self, "resource_id", self.server or f"{self.ref.model}/{self.ref.number}")

    def noting(self, entry: TimelineEntry) -> Incident:
        """Give the same incident with *entry* at the end of its timeline."""
        return replace(self, timeline=(*self.timeline, entry))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause of healing: for one model, or for all models if ``model`` is None."""

    model: ModelName | None
    by: str
    at: datetime
    reason: str
