"""`GET /health`: every service of a hub, probed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel import __version__
from mendel.durable import Outbox
from mendel.errors import MendelError
from mendel.operations import HubHealth, ServiceHealth

if TYPE_CHECKING:
    from collections.abc import Callable

    from mendel.app.wiring import Rooms

_OUTBOX_DEGRADED = 100


def probe(rooms: Rooms) -> HubHealth:
    """The body of ``GET /health``."""
    services = {
        "database": _probed(lambda: _revision(rooms)),
        "message_queue": _probed(lambda: _queue(rooms)),
        "lake": _probed(lambda: _lake(rooms)),
        "mlflow": _probed(lambda: _artifacts(rooms)),
        "postgres": ServiceHealth(status="disabled", detail="the state is kept in SQLite"),
        "redis": ServiceHealth(status="disabled", detail="not configured"),
        "external_api": ServiceHealth(status="disabled", detail="not configured"),
    }
    chores = rooms.chores.states if rooms.chores else {}
    failing = {name: state.last_error for name, state in chores.items() if state.failures}
    states = {service.status for service in services.values()}
    if services["database"].status == "unhealthy":
        overall = "unhealthy"
    else:
        overall = "degraded" if failing or states & {"degraded", "unhealthy"} else "healthy"
    return HubHealth(status=overall, version=__version__, services=services, failing_chores=failing)


def _probed(act: Callable[[], ServiceHealth]) -> ServiceHealth:
    try:
        return act()
    except MendelError as error:
        return ServiceHealth(status="unhealthy", detail=str(error))


def _revision(rooms: Rooms) -> ServiceHealth:
    return ServiceHealth(status="healthy", detail=f"revision {rooms.registry.lifecycle.revision()}")


def _queue(rooms: Rooms) -> ServiceHealth:
    depth = rooms.unit.read(lambda tx: tx.store(Outbox).depth())
    running = len(rooms.workflows.unfinished()) if rooms.workflows else 0
    status = "degraded" if depth > _OUTBOX_DEGRADED else "healthy"
    return ServiceHealth(status=status, detail=f"{depth} waiting, {running} running")


def _lake(rooms: Rooms) -> ServiceHealth:
    tables = len(rooms.lake.tables())
    waiting = len(rooms.inbox.pending())
    return ServiceHealth(status="healthy", detail=f"{tables} tables, {waiting} segments waiting")


def _artifacts(rooms: Rooms) -> ServiceHealth:
    if not rooms.data.artifacts.exists():
        return ServiceHealth(status="healthy", detail="nothing was registered yet")
    return ServiceHealth(status="healthy", detail=f"MLflow {rooms.artifacts.mlflow_version}")
