"""Commands about the performance of a model: its health, the rollback policy, and what other systems measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import Directory, Model, Version, as_usage, hub
from mendel.app.cli.output import Result
from mendel.app.cli.parameters import option

if TYPE_CHECKING:
    from mendel.registry import HealthReport, RollbackCheck

_SHARE = "A share from 0 to 1."


def health(model: Model, *, directory: Directory = None) -> Result:
    """
    Show the health of a model, with reasons.

    The production version is healthy, degraded, critical or unknown; too few requests to judge are unknown.
    """
    with hub(directory) as client:
        found = client.health(model)
    return Result(found, _health_lines(found))


def rollback_check(
    model: Model,
    *,
    window: Annotated[
        str | None,
        option("--window", metavar="DURATION", help="The length of the window.", show_default="the policy's"),
    ] = None,
    directory: Directory = None,
) -> Result:
    """
    Compare a model with its rollback policy; change nothing.

    Prints each measured value of the production version with its bound.
    """
    with hub(directory) as client:
        found = client.check_rollback_triggers(model, window=window)
    return Result(found, _check_lines(found))


def snapshot(
    version: Version,
    *,
    requests: Annotated[
        int | None,
        option("--requests", metavar="N", help="The number of requests; without it, nothing is measured."),
    ] = None,
    window: Annotated[
        str, option("--window", metavar="DURATION", help="The length of the time that was measured, up to now.")
    ] = "10m",
    source: Annotated[str, option("--source", metavar="NAME", help="The system that measured.")] = "command",
    error_rate: Annotated[float | None, option("--error-rate", metavar="SHARE", help=_SHARE)] = None,
    timeout_rate: Annotated[float | None, option("--timeout-rate", metavar="SHARE", help=_SHARE)] = None,
    ood_rate: Annotated[float | None, option("--ood-rate", metavar="SHARE", help=_SHARE)] = None,
    p95: Annotated[float | None, option("--p95", metavar="MS", help="The p95 latency in milliseconds.")] = None,
    drift: Annotated[
        float | None, option("--drift", metavar="NATS", help="The KL divergence of the inputs from the training data.")
    ] = None,
    accuracy: Annotated[float | None, option("--accuracy", metavar="SHARE", help=_SHARE)] = None,
    directory: Directory = None,
) -> Result:
    """
    Push what another system measured of a version.

    Then checks the production version against the rollback policy.
    Counters of Mendel's own servers win over such measurements of the same time.
    """
    from mendel.app.clock import utc_now  # noqa: PLC0415 - help must be quick
    from mendel.registry import Snapshot  # noqa: PLC0415
    from mendel.values import VersionRef, Window, parse_duration  # noqa: PLC0415

    with as_usage():
        measured = Snapshot(
            ref=VersionRef.parse(version),
            window=Window.before(utc_now(), parse_duration(window)),
            source=source,
            num_requests=requests,
            error_rate=error_rate,
            timeout_rate=timeout_rate,
            ood_rate=ood_rate,
            latency_p95_ms=p95,
            input_drift_score=drift,
            accuracy=accuracy,
        )
    with hub(directory) as client:
        found = client.record_performance_snapshot(measured)
    return Result(found, _check_lines(found))


def _health_lines(found: HealthReport) -> Iterator[str]:
    serving = found.model if found.ref is None else found.ref
    yield f"{serving}: {found.health_status}"
    yield from (f"  {reason}" for reason in found.reasons)


def _check_lines(found: RollbackCheck) -> Iterator[str]:
    if found.version is None:
        yield f"{found.model}: no version is in production"
        return
    word = f"{found.severity}, beyond the bounds" if found.should_roll_back else "within the bounds"
    yield f"{found.model}@{found.version}: {word}"
    yield from (f"! {reason}" for reason in found.reasons)
    for one in found.evidence:
        value = getattr(one.measurement, "value", None)
        told = f"not measured: {one.measurement}" if value is None else f"{value:.4g} (bound {one.threshold:.4g})"
        yield f"  {one.criterion:<14} {told}"
