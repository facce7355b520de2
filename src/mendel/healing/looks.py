"""Looks: evaluations of a model as they are stored, each with everything that it was decided from."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from mendel.drift import DriftReport, Quality
from mendel.errors import InvalidValue
from mendel.healing.decision_facts import Facts
from mendel.healing.decision_records import DecisionRecord
from mendel.healing.entities import Incident, LookResult, Pause
from mendel.healing.fast_checks import ServerDelays
from mendel.healing.healing_facts import HealingFacts
from mendel.healing.policy import HealingPolicy
from mendel.registry import (
    Availability,
    Held,
    MeasuredPerformance,
    PolicyDocument,
    Presence,
    ProductionPeriod,
    ServerState,
)
from mendel.values import (
    EPOCH,
    Deployment,
    ModelConvergence,
    ModelName,
    ServerReport,
    Stage,
    VersionRef,
    Window,
    from_json,
    to_builtins,
    to_json,
)

LOOK_SCHEMA: Final = 1
"""The schema version of looks; developers raise it when an older look can no longer be decided again."""
_PERIODS = 5
_VARYING = frozenset(
    {"window", "repeats", "last_seen", "raised_at", "timeline", "evidence", "reasons", "context"}
    | {"latency_p50_ms", "latency_p99_ms", "requests_per_second", "timeout_rate", "output_drift_score"}
    | {"profile_digest", "statistic", "p_value", "corrected", "quality", "low", "high", "confusion"}
)
"""Keys of facts that no decision compares with a bound, or that only say when something was measured."""
_COUNTS = frozenset({"num_requests", "samples", "rows", "have", "failed_loads"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Two numbers count as equal if they differ by at most ``least``, or by at most ``share`` of the larger number."""

    share: float
    least: float

    def allows(self, one: float, other: float) -> bool:
        """Whether the numbers count as equal."""
        return abs(one - other) <= max(self.least, self.share * max(abs(one), abs(other)))


class LookKind(StrEnum):
    """What a look evaluates: the ``counters`` of servers, the prediction ``log``, or an incident (``decision``)."""

    COUNTERS = "counters"
    LOG = "log"
    DECISION = "decision"

    @property
    def same_within(self) -> Tolerance:
        """How far measured numbers may differ between two looks that count as the same."""
        return Tolerance(share=0.02, least=0.005) if self is LookKind.LOG else Tolerance(share=0.1, least=0.005)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFact:
    """
    One server that has the model.

    Attributes:
        received_at: When its last report arrived; None while it reports.
        lacking_s: For how many seconds it has not served a deployment of this model that it should serve.
        behind_s: The longest such time over all its models.
    """

    name: str
    presence: Presence
    line: ModelConvergence
    received_at: datetime | None = None
    lacking_s: float = 0.0
    behind_s: float = 0.0

    @property
    def held(self) -> Held:
        """The server and its convergence, in the form that checks use."""
        report = ServerReport(
            server=self.name, epoch="", seq=0, at=EPOCH, revision=0, ready=True, convergence=(self.line,), spool={}
        )
        return ServerState(report=report, received_at=self.received_at or EPOCH), self.line


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterFacts:
    """
    The facts of a check of counters and servers; no bound of a policy has been applied to them.

    Attributes:
        measured: The performance of the production version; None if another version was measured.
        served: The versions that a server cannot load now and that some server has served before.
        ood_since: When the share of rows outside the reference began to rise; None if it is within its bound.
    """

    deployment: Deployment
    measured: MeasuredPerformance | None
    servers: tuple[ServerFact, ...] = ()
    served: tuple[int, ...] = ()
    ood_since: datetime | None = None

    @property
    def available(self) -> Availability:
        """The servers by presence."""

        def with_(presence: Presence) -> tuple[Held, ...]:
            return tuple(server.held for server in self.servers if server.presence is presence)

        return Availability(
            reporting=with_(Presence.REPORTING),
            stopped=with_(Presence.STOPPED),
            silent=with_(Presence.SILENT),
            unknown=with_(Presence.UNKNOWN),
        )

    def delays(self, within: timedelta) -> ServerDelays:
        """The servers that do not serve a deployment *within* the allowed time."""
        seconds = within.total_seconds()
        reporting = [server for server in self.servers if server.presence is Presence.REPORTING]
        return ServerDelays(
            late=frozenset(server.name for server in reporting if server.lacking_s > seconds),
            behind=frozenset(server.name for server in reporting if server.behind_s > seconds),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """
    The facts of a study of the prediction log.

    Attributes:
        reports: The comparisons of the last windows with the reference, oldest first; empty without a reference.
        since: When the inputs began to drift; None unless drift was confirmed.
        window: The newest window.
        current: The quality in the newest window; None without labelled rows.
        baseline: The quality that the version had before; None if it is unknown, or labels are too few to compare.
        first: The quality of the version's first labelled rows; None unless the current quality is low.
    """

    ref: VersionRef
    canary: VersionRef | None
    reports: tuple[DriftReport, ...]
    since: datetime | None
    window: Window
    current: Quality | None
    baseline: Quality | None
    first: Quality | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The state of a model in the registry at a look, as far as decisions need it; ``tenures`` are the newest."""

    generation: int
    production: VersionRef | None
    stage: Stage | None
    return_to: int | None
    tenures: tuple[ProductionPeriod, ...]
    canary: VersionRef | None
    pause: Pause | None

    @classmethod
    def of(cls, facts: HealingFacts, pause: Pause | None) -> Standing:
        """Give the standing in *facts*."""
        return cls(
            generation=facts.generation,
            production=facts.production,
            stage=facts.stage,
            return_to=facts.return_to,
            tenures=facts.tenures[-_PERIODS:],
            canary=facts.canary,
            pause=pause,
        )

    def under(self, document: PolicyDocument, at: datetime) -> HealingFacts:
        """Give the facts about the model with this standing under the policy *document*."""
        return HealingFacts(
            model=document.model,
            at=at,
            generation=self.generation,
            production=self.production,
            stage=self.stage,
            return_to=self.return_to,
            tenures=self.tenures,
            document=document,
            policy=HealingPolicy.of(document.body),
            canary=self.canary,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedIncident:
    """A decision with its inputs: the incident, without its timeline, and the facts."""

    incident: Incident
    facts: Facts
    record: DecisionRecord

    @classmethod
    def of(cls, incident: Incident, facts: Facts, record: DecisionRecord) -> DecidedIncident:
        """Keep what a decision depends on."""
        kept = replace(
            facts,
            runs=tuple(replace(run, steps=(), policy={}) for run in facts.runs),
            tried=tuple(replace(run, steps=(), policy={}) for run in facts.tried),
        )
        return cls(incident=replace(incident, timeline=(), description=""), facts=kept, record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    One evaluation of a model, stored so that it can be decided again.

    Attributes:
        at: The time of the evaluation, which is an input of the decision.
        until: The last time at which an evaluation gave the same.
        standing: The model's state in the registry; None for a decision.
        schema: The form of the inputs; a look with another schema than :data:`LOOK_SCHEMA` has no inputs and no result.
        counters, log, decided: The inputs, of which the kind says which is present.
        found: The result of a check; None for a decision.
    """

    id: str
    model: ModelName
    kind: LookKind
    at: datetime
    until: datetime
    policy_hash: str
    schema: int = LOOK_SCHEMA
    standing: Standing | None = None
    counters: CounterFacts | None = None
    log: LogFacts | None = None
    found: LookResult | None = None
    decided: DecidedIncident | None = None

    @property
    def incident(self) -> str | None:
        """The id of the incident that was decided about; None for a check."""
        return None if self.decided is None else self.decided.incident.id

    def same_as(self, other: Look) -> bool:
        """Whether policy and result of both looks are equal, and their facts up to :attr:`LookKind.same_within`."""
        return (
            (self.schema, self.policy_hash, self.incident) == (other.schema, other.policy_hash, other.incident)
            and self.kind is other.kind
            and self._outcome() == other._outcome()
            and _alike(to_builtins(self._inputs()), to_builtins(other._inputs()), self.kind.same_within)
        )

    def _inputs(self) -> object:
        if self.decided is not None:
            return (self.decided.incident, self.decided.facts)
        return self.counters or self.log

    def _outcome(self) -> object:
        if self.decided is not None:
            record = self.decided.record
            return record.verdict, record.rule, record.playbook, record.until
        if self.found is None:
            return None
        signals = [(signal.kind, signal.ref, signal.severity, signal.server) for signal in self.found.signals]
        return signals, self.found.clear, self.found.well


@dataclass(frozen=True, slots=True, kw_only=True)
class LookVolume:
    """The looks of one model that began on one day (UTC), and the bytes that they take in the database."""

    model: ModelName
    day: date
    looks: int
    size_bytes: int


def pack_look(look: Look) -> bytes:
    """Encode *look* as compressed JSON."""
    return zlib.compress(to_json(look), 6)


def unpack_look(packed: bytes) -> Look | None:
    """Decode a look; None if another version of Mendel stored it in a form that this version cannot read."""
    try:
        look = from_json(zlib.decompress(packed), Look)
    except InvalidValue:
        return None
    return look if look.schema == LOOK_SCHEMA else None


def _alike(one: object, other: object, within: Tolerance) -> bool:
    match one, other:
        case Mapping(), Mapping():
            return one.keys() == other.keys() and all(_alike_at(key, one[key], other[key], within) for key in one)
        case list() | tuple(), list() | tuple():
            return len(one) == len(other) and all(
                _alike(first, second, within) for first, second in zip(one, other, strict=True)
            )
        case float(), float():
            return within.allows(one, other)
        case _:
            return one == other


def _alike_at(key: str, one: object, other: object, within: Tolerance) -> bool:
    if key in _VARYING:
        return True
    if key in _COUNTS and isinstance(one, int) and isinstance(other, int):
        return within.allows(one, other)
    return _alike(one, other, within)
