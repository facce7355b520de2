"""Whether any server answers for a model, from what servers last reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from mendel.registry.snapshots import ServerState
from mendel.values import ModelConvergence, ModelName


def load_failure(model: ModelName, servers: Sequence[ServerState], quiet: timedelta, *, now: datetime) -> str | None:
    """
    Why no server serves *model*, when every one that hosts it reports a failure and serves no version of it.

    None: one serves it, is still loading it, or nothing is known. Servers not heard of for *quiet* do not count.
    """
    heard = _convergence(model, [server for server in servers if now - server.received_at <= quiet])
    if heard and all(c.version_serving is None and c.error is not None for c in heard):
        return f"No server can load it: {heard[0].error}"
    return None


def silence(model: ModelName, servers: Sequence[ServerState], quiet: timedelta, *, now: datetime) -> str | None:
    """Why *model* does not answer: it cannot be loaded, or every server that hosted it has been silent for *quiet*."""
    hosts = [server for server in servers if _convergence(model, [server])]
    if hosts and all(now - server.received_at > quiet for server in hosts):
        newest = max(server.received_at for server in hosts)
        return f"No server has reported since {newest.isoformat(timespec='seconds')}"
    return load_failure(model, servers, quiet, now=now)


def _convergence(model: ModelName, servers: Iterable[ServerState]) -> list[ModelConvergence]:
    return [c for server in servers for c in server.report.convergence if c.model == model]
