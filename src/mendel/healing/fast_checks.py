"""The fast checks: findings from rollback criteria and from the servers' convergence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mendel.healing.entities import Evidence, Finding, Signal, SignalKind
from mendel.healing.server_convergence import DeploymentConvergence
from mendel.registry import Criterion, CriterionReading, RollbackCheck
from mendel.values import Measured, Severity, VersionRef, to_json

_MINUTE = timedelta(minutes=1)
_KINDS = {
    Criterion.ERROR_RATE: SignalKind.FAULTS,
    Criterion.LATENCY: SignalKind.LATENCY,
    Criterion.OOD: SignalKind.OOD,
    Criterion.DRIFT: SignalKind.DRIFT,
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
    """The findings of one check: sentences, signals, and the kinds of signal that are within bounds."""

    looked: tuple[Finding, ...] = ()
    signals: tuple[Signal, ...] = ()
    clear: tuple[SignalKind, ...] = ()


def signal_kind_of(criterion: Criterion) -> SignalKind:
    """Give the kind of signal for a rollback criterion."""
    return _KINDS[criterion]


def findings_of_check(check: RollbackCheck, ref: VersionRef, *, generation: int, now: datetime) -> Findings:
    """
    Make signals for the rollback criteria whose bounds are crossed.

    The drift score of snapshots can raise a drift signal but never clear it; only the check of the prediction log
    clears it.
    """
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
    clear = [_KINDS[one.criterion] for one in measured if not one.holds and one.criterion is not Criterion.DRIFT]
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


def findings_of_servers(
    found: DeploymentConvergence, ref: VersionRef, *, overdue: bool, silent: bool, policy_hash: str, now: datetime
) -> Findings:
    """
    Make signals for servers that do not apply the deployment or do not report.

    Args:
        overdue: Whether the time to apply the deployment has passed.
        silent: Whether servers have the model, but none of them has reported lately.
    """
    looked = (Finding(kind=SignalKind.NOT_CONVERGING, text=str(found), measured=found.servers > 0),)

    def signal(kind: SignalKind, severity: Severity, reasons: Sequence[str]) -> Signal:
        readings: dict[str, Any] = {"servers": found.servers, "following": found.serving}
        evidence = Evidence(policy_hash=policy_hash, readings=readings, generation=found.generation)
        return Signal(kind=kind, ref=ref, severity=severity, at=now, reasons=tuple(reasons), evidence=evidence)

    signals = []
    if silent and overdue:
        signals.append(signal(SignalKind.UNAVAILABLE, Severity.CRITICAL, ("No server has reported lately",)))
    if found.servers and len(found.not_ready) == found.servers and overdue:
        why = f"No server is ready: {', '.join(found.not_ready)}"
        signals.append(signal(SignalKind.UNAVAILABLE, Severity.CRITICAL, (why,)))
    if found.state == "no" and overdue:
        kind = SignalKind.LOAD_FAILURE if found.failures else SignalKind.NOT_CONVERGING
        reasons = [f"Cannot be loaded by {one}" for one in found.failures] or [str(found)]
        signals.append(signal(kind, Severity.HIGH if found.failures else Severity.MEDIUM, reasons))
    well = found.converged and not found.not_ready
    return Findings(looked=looked, signals=tuple(signals), clear=_CONVERGENCE if well else ())


def _severity(reading: CriterionReading, check: RollbackCheck) -> Severity:
    if reading.criterion in {Criterion.ERROR_RATE, Criterion.AVAILABILITY} and check.severity is not None:
        return check.severity
    return Severity.MEDIUM


def _readings(reading: CriterionReading) -> dict[str, Any]:
    measured = reading.measurement
    value = {"value": measured.value, "samples": measured.samples} if isinstance(measured, Measured) else {}
    return {"criterion": reading.criterion.value, "threshold": reading.threshold, **value}
