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
from mendel.values import ExternalServer, ModelName, to_builtins

_PHASES = {BreakerPhase.CLOSED: 0.0, BreakerPhase.OPEN: 1.0, BreakerPhase.HALF_OPEN: 2.0}


def readiness_of(state: str, deployments: LoadedDeployments, sink: PredictionSink | None) -> Readiness:
    """
    Compute the readiness: a server becomes ready when each deployed model has been loaded or has failed to load.

    A model or a new version that cannot be loaded, an unhealthy server of a remote model, or a prediction log that
    accepts no rows, makes the server degraded, but not unready.
    """
    if state != "serving":
        return Readiness(state=state, checks=(Check(name="kernel", passed=False, detail=state),))
    known = deployments.models()
    if known is None or (deployments.revision is None and not known):
        return Readiness(state="starting", checks=(Check(name="desired-state", passed=False, detail="none yet"),))
    checks = (*(_model_check(name, deployments) for name in sorted(known)), *_external_checks(deployments))
    if deployments.starting() is not None:
        return Readiness(state="starting", checks=checks)
    lagging = any(report.error is not None for report in deployments.convergence.values())
    sound = all(check.passed for check in checks) and not lagging and not _log_trouble(sink)
    return Readiness(state="ready" if sound else "degraded", checks=checks)


def status_of(
    readiness: Readiness,
    deployments: LoadedDeployments,
    breakers: BreakerView,
    sink: PredictionSink | None,
    active: int,
) -> KernelStatus:
    """Give the loaded versions with their queued and running requests."""
    models = tuple(_model_status(name, deployments, breakers) for name in sorted(deployments.models() or ()))
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


def _model_check(name: ModelName, deployments: LoadedDeployments) -> Check:
    hosted = deployments.table.get(name)
    if hosted is not None and (hosted.serving or deployments.is_unloaded(name)):
        return Check(name=f"model:{name}", passed=hosted.unready is None, detail=hosted.unready or "")
    return Check(name=f"model:{name}", passed=False, detail=deployments.why_not_serving(name) or "not loaded yet")


def external_servers(deployments: LoadedDeployments) -> Iterator[ExternalServer]:
    """Give the servers of all loaded remote models."""
    for hosted in deployments.table.values():
        for version in hosted.versions.values():
            yield from version.artifact.backend.place.external_api


def _external_checks(deployments: LoadedDeployments) -> Iterator[Check]:
    for server in external_servers(deployments):
        yield Check(name=f"external_api:{server.address}", passed=server.status != "unhealthy", detail=server.detail)


def _model_status(name: ModelName, deployments: LoadedDeployments, breakers: BreakerView) -> ModelStatus:
    report = deployments.convergence.get(name)
    hosted = deployments.table.get(name)
    unready = None if hosted is None else hosted.unready
    versions = () if hosted is None else tuple(_version_status(hosted, v, breakers) for v in hosted.versions.values())
    return ModelStatus(
        model=name,
        ready=hosted is not None and hosted.serving and unready is None and deployments.starting() is None,
        unloaded=deployments.is_unloaded(name),
        generation_desired=None if report is None or report.generation_desired < 0 else report.generation_desired,
        generation_serving=0 if report is None else max(report.generation_serving, 0),
        version_serving=None if report is None else report.version_serving,
        versions=versions,
        failed_version=None if report is None else report.failed_version,
        error=(report and report.error) or deployments.why_not_serving(name) or unready,
    )


def _version_status(hosted: LoadedDeployment, version: LoadedVersion, breakers: BreakerView) -> VersionStatus:
    number, deployment, place = version.ref.number, hosted.deployment, version.artifact.backend.place
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
        memory_bytes=version.artifact.memory_bytes if place.memory_bytes is None else place.memory_bytes,
        place=place,
    )


def _log_trouble(sink: PredictionSink | None) -> bool:
    return isinstance(sink, Spool) and sink.condition.degraded is not None
