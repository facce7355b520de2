"""The servers that have a model loaded, and whether each one reports, was stopped or is silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mendel.registry.snapshots import ServerState
from mendel.values import ModelConvergence, ModelName

_UNLOADED = "No server has the model loaded"
_ENOUGH = 3


class Presence(StrEnum):
    """
    Whether the hub considers a server to be running.

    ``stopped``: the last report announced that the server stops. ``silent``: no recent report, and no announced stop.
    ``unknown``: no recent report, but the hub has not listened long enough to call the server silent.
    """

    REPORTING = "reporting"
    STOPPED = "stopped"
    SILENT = "silent"
    UNKNOWN = "unknown"


PresenceOf = Callable[[ServerState, timedelta, datetime], Presence]
"""Decides the presence of a server from its newest report, the policy's ``rollback.silence``, and the hub's clock."""

Held = tuple[ServerState, ModelConvergence]
"""A server and the convergence of one model on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """The servers that have one model at one time, each with its convergence for the model, grouped by presence."""

    reporting: tuple[Held, ...] = ()
    stopped: tuple[Held, ...] = ()
    silent: tuple[Held, ...] = ()
    unknown: tuple[Held, ...] = ()

    @property
    def by_presence(self) -> tuple[tuple[Presence, tuple[Held, ...]], ...]:
        """Each presence with its servers."""
        return (
            (Presence.REPORTING, self.reporting),
            (Presence.STOPPED, self.stopped),
            (Presence.SILENT, self.silent),
            (Presence.UNKNOWN, self.unknown),
        )

    @property
    def all_silent(self) -> bool:
        """
        Whether servers have the model, but none of them reports and none of them is unknown.

        A silent server whose last report is older than the stop of another server is ignored, because it counts as a
        former server.
        """
        stopped = max((server.received_at for server, _ in self.stopped), default=None)
        silent = [server for server, _ in self.silent if stopped is None or server.received_at > stopped]
        return bool(silent) and not self.reporting and not self.unknown

    @property
    def served(self) -> bool:
        """Whether a reporting server serves a version of the model."""
        return any(line.version_serving is not None for _, line in self.reporting)

    @property
    def load_error(self) -> str | None:
        """
        Give the load error of the first reporting server, if every reporting server failed and serves no version.

        None if a server serves or loads the model, or if no server reports. Servers on which a caller unloaded the
        model do not count.
        """
        asked = [line for _, line in self.reporting if not line.unloaded]
        if asked and not self.served and all(line.error is not None for line in asked):
            return f"No server can load the model: {asked[0].error}"
        return None

    def failure_of(self, version: int | None) -> str | None:
        """
        Give :attr:`load_error` if *version* is at fault in three loads in a row on one server; None if servers may be
        at fault.

        Three, because this rule waits for no time to pass: a server repeats its first load within 2 s.
        """
        failed = [line for _, line in self.reporting if line.failed_version == version]
        proven = any(line.version_at_fault and line.failed_loads >= _ENOUGH for line in failed)
        return self.load_error if proven else None

    @property
    def outage(self) -> str | None:
        """Explain why the model does not answer: no server reports, or none can load it; None if the model answers."""
        if self.all_silent:
            newest = max(server.received_at for server, _ in self.silent)
            return f"No server has reported since {newest.isoformat(timespec='seconds')}"
        return self.load_error

    @property
    def uncertainty(self) -> str | None:
        """Explain why the model's health is unknown although nothing has failed; None if a server serves the model."""
        if self.served or self.outage is not None:
            return None
        if self.reporting:
            loading = [
                server.name
                for server, line in self.reporting
                if line.generation_serving < line.generation_desired and not line.unloaded
            ]
            return f"No server serves the model yet; loading: {', '.join(loading)}" if loading else _UNLOADED
        if self.unknown:
            return f"No report has arrived yet of: {', '.join(server.name for server, _ in self.unknown)}"
        if self.stopped:
            return f"Every server was stopped: {', '.join(server.name for server, _ in self.stopped)}"
        return None


def presence_at(server: ServerState, silence: timedelta, now: datetime) -> Presence:
    """
    Decide the presence of *server* by the hub's clock.

    A server reports if its last report arrived at most *silence* ago (the policy's ``rollback.silence``). The presence
    is unknown if that arrival is more than *silence* in the future, because the hub's clock was then set back.
    """
    if server.report.leaving:
        return Presence.STOPPED
    age = now - server.received_at
    if age < -silence:
        return Presence.UNKNOWN
    return Presence.REPORTING if age <= silence else Presence.SILENT


def availability_by(
    model: ModelName, servers: Sequence[ServerState], presence: Callable[[ServerState], Presence]
) -> Availability:
    """Group the servers that have *model* by their presence."""
    held = [(server, line) for server in servers for line in server.report.convergence if line.model == model]

    def with_(wanted: Presence) -> tuple[Held, ...]:
        return tuple((server, line) for server, line in held if presence(server) is wanted)

    return Availability(
        reporting=with_(Presence.REPORTING),
        stopped=with_(Presence.STOPPED),
        silent=with_(Presence.SILENT),
        unknown=with_(Presence.UNKNOWN),
    )


def availability_of(
    model: ModelName,
    servers: Sequence[ServerState],
    silence: timedelta,
    now: datetime,
    presence: PresenceOf = presence_at,
) -> Availability:
    """Group the servers that have *model* by their *presence* at *now*, by default according to the hub's clock."""
    return availability_by(model, servers, lambda server: presence(server, silence, now))
