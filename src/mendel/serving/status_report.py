"""Compute the readiness, the status and the metrics of a kernel."""

from __future__ import annotations

from collections.abc import Iterator

from mendel.predictions import Spool
from mendel.resilience import BreakerPhase
from mendel.serving.entities import Check, KernelStatus, ModelStatus, Readiness, VersionStatus
from mendel.serving.loaded_deployments import LoadedDeployment, LoadedDeployments
from mendel.serving.loaded_version import LoadedVersion
from mendel.serving.metrics import BREAKER, INFO, SPOOL, Family, Labels, render
from mendel.serving.ports import BreakerView, CounterSlots, PredictionSink
from mendel.serving.unregistered_version import is_registered
from mendel.values import to_builtins

_PHASES = {BreakerPhase.CLOSED: 0.0, BreakerPhase.OPEN: 1.0, BreakerPhase.HALF_OPEN: 2.0}


def readiness_of(state: str, deployments: LoadedDeployments, sink: PredictionSink | None) -> Readiness:
    """
    Decide whether a kernel is ready: every deployed model must have a loaded version that predicted its input example.

    A model that is deployed while other models are already served counts only after its artefact was fetched. When a
    newer version cannot be loaded, or the prediction log accepts no rows, the kernel is ``degraded`` but ready.

    Args:
        state: The state of the kernel: ``created``, ``serving``, ``draining`` or ``stopped``.
        sink: The prediction log; None when the kernel logs nothing.
    """
    if state != "serving":
        return Readiness(state=state, checks=(Check(name="kernel", passed=False, detail=state),))
    if deployments.revision is None:
        return Readiness(state="starting", checks=(Check(name="desired-state", passed=False, detail="none yet"),))
    nothing_served = frozenset() if deployments.table else deployments.unloaded_models() or frozenset()
    checks = tuple(_model_check(name, deployments) for name in sorted(nothing_served | deployments.convergence.keys()))
    if not all(check.passed for check in checks):
        return Readiness(state="starting", checks=checks)
    lagging = any(report.error is not None for report in deployments.convergence.values())
    return Readiness(state="degraded" if lagging or _log_trouble(sink) else "ready", checks=checks)


def status_of(
    readiness: Readiness,
    deployments: LoadedDeployments,
    breakers: BreakerView,
    sink: PredictionSink | None,
    active: int,
) -> KernelStatus:
    """Give the status of every model and version of a kernel; *active* is the number of requests in flight."""
    models = tuple(_model_status(name, deployments, breakers) for name in sorted(deployments.convergence))
    spool = to_builtins(sink.condition) if isinstance(sink, Spool) else {}
    return KernelStatus(
        readiness=readiness,
        revision=deployments.revision or 0,
        active=active,
        models=models,
        logging=sink is not None and not _log_trouble(sink),
        spool=spool,
    )


def metrics_text(
    counters: CounterSlots, deployments: LoadedDeployments, breakers: BreakerView, sink: PredictionSink | None
) -> str:
    """Render the metrics of a server in Prometheus' text format."""
    return render(counters.totals(), _gauges(deployments, breakers, sink))


def _gauges(
    deployments: LoadedDeployments, breakers: BreakerView, sink: PredictionSink | None
) -> Iterator[tuple[Family, Labels, float]]:
    for hosted in deployments.table.values():
        for version in hosted.versions.values():
            model, number = str.__str__(version.ref.model), str(version.ref.number)
            if version.ref.number == hosted.deployment.production:
                yield INFO, (("model", model), ("version", version.metadata.label or "")), 1.0
            yield BREAKER, (("model_name", model), ("version", number)), _PHASES[breakers.phase(version.ref)]
    if isinstance(sink, Spool):
        yield SPOOL, (), float(sink.condition.size_bytes)


def _model_check(name: str, deployments: LoadedDeployments) -> Check:
    hosted = deployments.table.get(name)
    if hosted is not None and (hosted.serving or deployments.is_unloaded(hosted.deployment.model)):
        return Check(name=f"model:{name}", passed=True)
    error = next((r.error for model, r in deployments.convergence.items() if model == name), None)
    return Check(name=f"model:{name}", passed=False, detail=error or (hosted and hosted.died) or "not loaded yet")


def _model_status(name: str, deployments: LoadedDeployments, breakers: BreakerView) -> ModelStatus:
    report = next(report for model, report in deployments.convergence.items() if model == name)
    hosted = deployments.table.get(name)
    versions = () if hosted is None else tuple(_version_status(hosted, v, breakers) for v in hosted.versions.values())
    return ModelStatus(
        model=report.model,
        generation_desired=report.generation_desired,
        generation_serving=report.generation_serving,
        version_serving=report.version_serving,
        versions=versions,
        error=report.error,
    )


def _version_status(hosted: LoadedDeployment, version: LoadedVersion, breakers: BreakerView) -> VersionStatus:
    number, deployment = version.ref.number, hosted.deployment
    roles = {
        "route": any(route.version == number for route in deployment.routes),
        "shadow": deployment.shadow == number,
        "fallback": deployment.fallback == number,
        "keep": number in deployment.keep,
    }
    return VersionStatus(
        version=number,
        uuid=version.served.uuid if is_registered(version.served) else None,
        roles=tuple(role for role, held in roles.items() if held),
        queued=version.lane.queued,
        running=version.lane.running,
        breaker=breakers.phase(version.ref),
        loaded_at=version.loaded_at,
        footprint_bytes=version.artifact.footprint_bytes,
    )


def _log_trouble(sink: PredictionSink | None) -> bool:
    return isinstance(sink, Spool) and sink.condition.degraded is not None
