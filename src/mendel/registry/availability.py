"""Which servers have a model loaded, and which of them report; the only rule for when a server counts as reporting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.registry.snapshots import ServerState
from mendel.values import ModelConvergence, ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """
    The servers that have one model loaded, at one time.

    Attributes:
        reporting: Servers that reported lately, each with its convergence for the model.
        silent: Servers that did not report lately, because they ended or cannot reach the hub.
    """

    reporting: tuple[tuple[ServerState, ModelConvergence], ...] = ()
    silent: tuple[ServerState, ...] = ()

    @property
    def all_silent(self) -> bool:
        """Whether servers have the model, but none of them has reported lately."""
        return bool(self.silent) and not self.reporting

    @property
    def load_failure(self) -> str | None:
        """
        Give the load error of the first reporting server, if every reporting server failed and serves no version.

        None if a server serves or loads the model, or if no server reports.
        """
        lines = [line for _, line in self.reporting]
        if lines and all(line.version_serving is None and line.error is not None for line in lines):
            return f"No server can load the model: {lines[0].error}"
        return None

    @property
    def outage(self) -> str | None:
        """Explain why the model does not answer: no server reports, or none can load the model; None if it answers."""
        if self.all_silent:
            newest = max(server.received_at for server in self.silent)
            return f"No server has reported since {newest.isoformat(timespec='seconds')}"
        return self.load_failure


def is_reporting(server: ServerState, silence: timedelta, now: datetime) -> bool:
    """Whether the last report of *server* reached the hub at most *silence* ago (the policy's ``rollback.silence``)."""
    return now - server.received_at <= silence


def availability_of(
    model: ModelName, servers: Sequence[ServerState], silence: timedelta, now: datetime
) -> Availability:
    """Divide the servers that have *model* into reporting and silent servers."""
    lines = [(server, line) for server in servers for line in server.report.convergence if line.model == model]
    return Availability(
        reporting=tuple((server, line) for server, line in lines if is_reporting(server, silence, now)),
        silent=tuple(server for server, _ in lines if not is_reporting(server, silence, now)),
    )
