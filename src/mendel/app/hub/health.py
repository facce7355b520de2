"""Check the services of a hub for `GET /health`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from mendel.app.hub.background_jobs import JobState
from mendel.app.stores import Stores
from mendel.durable import Outbox, Workflows
from mendel.errors import MendelError
from mendel.operations import HubHealth, ServiceHealth
from mendel.registry import MirrorReading, Presence, RegistryStore, presence_at
from mendel.version import __version__

_OUTBOX_DEGRADED = 100
_SILENCE = timedelta(seconds=30)
_TOLD = 3  # of the models that lag, in the detail


def probe(
    stores: Stores,
    *,
    workflows: Workflows | None,
    jobs: Mapping[str, JobState],
    now: datetime,
    mirror: MirrorReading | None = None,
) -> HubHealth:
    """
    Check every service and background job of a hub.

    Args:
        workflows: The running workflows; None when no hub runs.
        jobs: The states of the background jobs by name.
        mirror: How far the alias and the tags in MLflow lag behind the stages; None where nothing compares them.
    """
    services = {
        "database": _probed(lambda: _database(stores)),
        "message_queue": _probed(lambda: _queue(stores, workflows)),
        "lake": _probed(lambda: _lake(stores)),
        "mlflow": _probed(lambda: _artifacts(stores, mirror, now)),
        "postgres": ServiceHealth(status="disabled", detail="the state is kept in SQLite"),
        "redis": ServiceHealth(status="disabled", detail="not configured"),
        "external_api": _probed(lambda: _external(stores, now)),
    }
    failing = {name: state.last_error for name, state in jobs.items() if state.failures}
    states = {service.status for service in services.values()}
    if services["database"].status == "unhealthy":
        overall = "unhealthy"
    else:
        overall = "degraded" if failing or states & {"degraded", "unhealthy"} else "healthy"
    return HubHealth(status=overall, version=__version__, services=services, failing_chores=failing)


def _external(stores: Stores, now: datetime) -> ServiceHealth:
    """Tell the servers of remote models, as the servers that ask them reported last."""
    states = stores.state.read(lambda tx: tx.store(RegistryStore).servers())
    reporting = [state.report for state in states if presence_at(state, _SILENCE, now) is Presence.REPORTING]
    seen = sorted({(s.address, s.status, s.detail) for report in reporting for s in report.external_api})
    if not seen:
        return ServiceHealth(status="disabled", detail="no server serves a remote model")
    statuses = {status for _, status, _ in seen}
    detail = "; ".join(f"{address}: {status}{f' ({why})' if why else ''}" for address, status, why in seen)
    worst = "healthy" if statuses == {"healthy"} else "unhealthy" if statuses == {"unhealthy"} else "degraded"
    return ServiceHealth(status=worst, detail=detail)


def _probed(act: Callable[[], ServiceHealth]) -> ServiceHealth:
    try:
        return act()
    except MendelError as error:
        return ServiceHealth(status="unhealthy", detail=str(error))


def _database(stores: Stores) -> ServiceHealth:
    revision = stores.state.read(lambda tx: tx.store(RegistryStore).revision())
    return ServiceHealth(status="healthy", detail=f"revision {revision}")


def _queue(stores: Stores, workflows: Workflows | None) -> ServiceHealth:
    depth = stores.state.read(lambda tx: tx.store(Outbox).depth())
    running = len(workflows.unfinished()) if workflows else 0
    status = "degraded" if depth > _OUTBOX_DEGRADED else "healthy"
    return ServiceHealth(status=status, detail=f"{depth} waiting, {running} running")


def _lake(stores: Stores) -> ServiceHealth:
    tables, waiting = len(stores.lake.tables()), len(stores.segments.pending())
    return ServiceHealth(status="healthy", detail=f"{tables} tables, {waiting} segments waiting")


def _artifacts(stores: Stores, mirror: MirrorReading | None, now: datetime) -> ServiceHealth:
    stores.artifacts.check()
    version = f"MLflow {stores.artifacts.mlflow_version}"
    if mirror is None or mirror.at is None:
        return ServiceHealth(status="healthy", detail=version)
    age = max((now - mirror.at).total_seconds(), 0.0)
    compared = f"{version}; alias and tags of {mirror.models} models compared {age:.0f} s ago"
    if not mirror.lagging:
        return ServiceHealth(status="healthy", detail=f"{compared}, {mirror.repaired} repaired")
    told = "; ".join(f"{one.model} since {one.since:%Y-%m-%dT%H:%M:%SZ}: {one.why}" for one in mirror.lagging[:_TOLD])
    return ServiceHealth(status="degraded", detail=f"{compared}, {len(mirror.lagging)} lag behind the stages: {told}")
