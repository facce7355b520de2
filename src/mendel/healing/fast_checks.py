"""The fast checks: findings from rollback criteria and from the servers' convergence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from mendel.healing.entities import Evidence, Finding, Signal, SignalKind
from mendel.healing.server_convergence import DeploymentConvergence, canary_of, convergence_of
from mendel.registry import Availability, Criterion, CriterionReading, RollbackCheck
from mendel.values import Deployment, Measured, ModelConvergence, Severity, VersionRef, to_json

_MINUTE = timedelta(minutes=1)
_KINDS = {
    Criterion.ERROR_RATE: SignalKind.FAULTS,
    Criterion.LATENCY: SignalKind.LATENCY,
    Criterion.OOD: SignalKind.OOD,
    Criterion.DRIFT: SignalKind.DRIFT_SCORE,
    Criterion.AVAILABILITY: SignalKind.LOAD_FAILURE,
}
_NAMES = {
    Criterion.ERROR_RATE: "error rate",
    Criterion.LATENCY: "p95 latency in ms",
    Criterion.OOD: "OOD rate",
    Criterion.DRIFT: "input drift (KL)",
    Criterion.AVAILABILITY: "availability",
}
_CONVERGENCE = (SignalKind.LOAD_FAILURE, SignalKind.NOT_CONVERGING, SignalKind.UNAVAILABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The findings of one check: sentences, signals, kinds of signal within bounds, and servers without a delay."""

    looked: tuple[Finding, ...] = ()
    signals: tuple[Signal, ...] = ()
    clear: tuple[SignalKind, ...] = ()
    well: tuple[str, ...] = ()


def signal_kind_of(criterion: Criterion) -> SignalKind:
    """Give the kind of signal for a rollback criterion."""
    return _KINDS[criterion]


def findings_of_check(check: RollbackCheck, ref: VersionRef, *, generation: int, now: datetime) -> Findings:
    """Make signals for the rollback criteria whose bounds are crossed."""
    digest = f"sha256:{hashlib.sha256(to_json(check)).hexdigest()}"
    signals = tuple(
        Signal(
            kind=_KINDS[reading.criterion],
            ref=ref,
            severity=_severity(reading, check),
            at=now,
            reasons=(reading.reason,),
            evidence=Evidence(
                policy_hash=check.policy_hash,
                digests=(digest,),
                readings={**_readings(reading), "window_minutes": check.window.length / _MINUTE},
                generation=generation,
            ),
        )
        for reading in check.evidence
        if reading.holds
    )
    measured = [one for one in check.evidence if isinstance(one.measurement, Measured)]
    clear = [_KINDS[one.criterion] for one in measured if not one.holds]
    looked = [
        Finding(kind=_KINDS[one.criterion], text=told(one), measured=isinstance(one.measurement, Measured))
        for one in check.evidence
    ]
    return Findings(looked=tuple(looked), signals=signals, clear=tuple(clear))


def told(reading: CriterionReading) -> str:
    """Format *reading* for users."""
    name = _NAMES[reading.criterion]
    if not isinstance(reading.measurement, Measured):
        return f"{name} not measured: {reading.measurement}"
    return f"{name} {reading.measurement.value:.4g} (bound {reading.threshold:.4g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDelays:
    """
    The names of reporting servers that do not serve a deployment although the policy's time to apply it has passed.

    Attributes:
        late: The servers that do not serve this model's deployment.
        behind: The servers that do not serve the deployment of at least one model.
    """

    late: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()


def findings_of_servers(
    deployment: Deployment,
    available: Availability,
    delays: ServerDelays,
    *,
    policy_hash: str,
    now: datetime,
) -> Findings:
    """
    Make signals about a version that failed to load, and about servers that are late or silent.

    The deployment must have a production version.

    A server that is starting, was just stopped, or has unknown presence causes no signal.
    """
    found = convergence_of(deployment, available)
    ref = VersionRef(deployment.model, deployment.routes[0].version)
    looked = (Finding(kind=SignalKind.NOT_CONVERGING, text=str(found), measured=found.servers > 0),)

    def signal(
        kind: SignalKind, severity: Severity, reason: Sequence[str], server: str | None = None, ref: VersionRef = ref
    ) -> Signal:
        readings: dict[str, Any] = {"servers": found.servers, "following": found.serving, "server": server}
        evidence = Evidence(policy_hash=policy_hash, readings=readings, generation=found.generation)
        severity = severity if available.served else Severity.CRITICAL
        return Signal(
            kind=kind, ref=ref, severity=severity, at=now, reasons=tuple(reason), evidence=evidence, server=server
        )

    late = [(server, line) for server, line in available.reporting if server.name in delays.late]
    signals = []
    if (found.version_failed or found.canary_failed) and any(line.version_at_fault for _, line in late):
        reasons = [f"The version cannot be loaded by {one}" for one in found.failures]
        canary = canary_of(deployment)
        blamed = ref if found.version_failed or canary is None else VersionRef(ref.model, canary)
        ended = any(line.ended_workers and line.failed_version == blamed.number for _, line in late)
        failure = signal(SignalKind.LOAD_FAILURE, Severity.HIGH, reasons, ref=blamed)
        signals.append(replace(failure, ended_workers=ended))
    else:
        for server, line in late:
            reason = f"{server.name} {_delay(line, deployment, ref)}"
            signals.append(signal(SignalKind.NOT_CONVERGING, Severity.MEDIUM, (reason,), server.name))
    if available.all_silent:
        newest, _ = max(available.silent, key=lambda one: one[0].received_at)
        reason = f"No server has reported for longer than rollback.silence; the last report came from {newest.name}"
        signals.append(signal(SignalKind.UNAVAILABLE, Severity.CRITICAL, (reason,), newest.name))
    return Findings(
        looked=looked,
        signals=tuple(signals),
        clear=_clear(found, available, delays),
        well=_well(deployment, available, delays),
    )


def _delay(line: ModelConvergence, deployment: Deployment, ref: VersionRef) -> str:
    if line.generation_desired < deployment.generation:
        return f"has not received generation {deployment.generation} of {ref.model}"
    canary = canary_of(deployment)
    only_canary = canary is not None and line.version_serving == deployment.production
    missing = f"the canary {VersionRef(ref.model, canary)}" if canary is not None and only_canary else str(ref)
    why = line.error or "it is still loading"
    return f"received generation {deployment.generation} of {ref.model} and does not serve {missing}: {why}"


def _clear(found: DeploymentConvergence, available: Availability, delays: ServerDelays) -> tuple[SignalKind, ...]:
    """
    Give the kinds of signal that are within bounds.

    An incident about a server covers all models on that server. The incident is therefore over only when the servers of
    this model serve all their models, or were stopped.
    """
    served = found.converged or (not found.servers and bool(found.unloaded))
    followed = served and not any(server.name in delays.behind for server, _ in available.reporting)
    stopped = bool(available.stopped) and not (available.reporting or available.silent or available.unknown)
    if followed or stopped:
        return _CONVERGENCE
    return (SignalKind.UNAVAILABLE,) if available.served else ()


def _well(deployment: Deployment, available: Availability, delays: ServerDelays) -> tuple[str, ...]:
    serving = [
        server.name
        for server, line in available.reporting
        if (line.unloaded or line.generation_serving >= deployment.generation) and server.name not in delays.behind
    ]
    return (*serving, *(server.name for server, _ in available.stopped))


def _severity(reading: CriterionReading, check: RollbackCheck) -> Severity:
    if reading.criterion in {Criterion.ERROR_RATE, Criterion.AVAILABILITY} and check.severity is not None:
        return check.severity
    return Severity.MEDIUM


def _readings(reading: CriterionReading) -> dict[str, Any]:
    measured = reading.measurement
    value = {"value": measured.value, "samples": measured.samples} if isinstance(measured, Measured) else {}
    return {"criterion": reading.criterion.value, "threshold": reading.threshold, **value}
