"""Track the reports of servers within one process by a monotonic clock, which cannot be set back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mendel.registry import Availability, Presence, ServerState, availability_by, presence_at
from mendel.values import ModelName

NOTHING = timedelta(0)
_RECENT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class _Lack:
    """A generation that a server received but does not serve, and when the first report about it was seen."""

    generation: int
    since: timedelta


@dataclass(slots=True)
class _Seen:
    """
    The observed reports of one server.

    Attributes:
        heard: When its newest report was seen; None if no report came since the watch began.
        lacks: The generations that the server received but does not serve, by model.
        awaits: The generations that the server has not received yet, by model.
    """

    epoch: str
    seq: int
    heard: timedelta | None
    lacks: dict[ModelName, _Lack] = field(default_factory=dict)
    awaits: dict[ModelName, _Lack] = field(default_factory=dict)


class ServerWatch:
    """
    Tracks the reports of all servers; threads may share it.

    Only time between regular ticks and checks counts. After a longer gap (the process was stopped or the machine was
    suspended), every server is unknown until its next report, and the gap adds to no delay.

    Args:
        steady: Gives the monotonic time.
        longest_gap: The longest pause between two ticks or checks that still counts as regular.
    """

    def __init__(self, steady: Callable[[], timedelta], *, longest_gap: timedelta) -> None:
        self._steady = steady
        self._longest_gap = longest_gap
        self._mutex, self._looking = threading.Lock(), threading.Lock()
        self._looked: timedelta | None = None
        self._time = NOTHING
        self._began = NOTHING
        self._knows_all = False
        self._seen: dict[str, _Seen] = {}
        self._served: set[tuple[ModelName, int]] = set()

    def look(self, read: Callable[[], Sequence[ServerState]], now: datetime) -> tuple[ServerState, ...]:
        """Read the newest report of every server, and remember which reports are new; *now* is the hub's clock."""
        with self._looking:  # in order of reading; the mutex is never held during a read
            servers = tuple(read())
            with self._mutex:
                self._pass_time()
                for server in servers:
                    self._note(server, now)
                self._knows_all = True
            return servers

    def tick(self) -> None:
        """Note that the process runs; checks may then take as long as they need."""
        with self._mutex:
            self._pass_time()

    def presence(self, server: ServerState, silence: timedelta, now: datetime) -> Presence:
        """
        Decide whether *server* reports: by the monotonic clock, or by the hub's clock *now* if no check has seen this
        report.
        """
        with self._mutex:
            seen, report = self._seen.get(server.name), server.report
            if seen is None or (seen.epoch, seen.seq) != (report.epoch, report.seq):
                return presence_at(server, silence, now)
            return self._presence(server, silence)

    def availability(self, model: ModelName, servers: Sequence[ServerState], silence: timedelta) -> Availability:
        """
        Group the servers that have *model* by presence; a server is silent only if it was watched for *silence* without
        report.
        """
        with self._mutex:
            return availability_by(model, servers, lambda server: self._presence(server, silence))

    def lacking(self, server: ServerState, model: ModelName, generation: int) -> timedelta:
        """
        Give for how long *server* has reported that it received its generation of *model* but does not serve it.

        If the server has not received *generation*, the time since its first report after *generation* was wanted is
        given. Time in which a caller keeps the model unloaded does not count.
        """
        with self._mutex:
            seen = self._seen[server.name]
            line = next((one for one in server.report.convergence if one.model == model), None)
            if seen.heard is None or line is None or line.unloaded:
                return NOTHING
            if line.generation_desired < generation:
                known = seen.awaits.get(model)
                if known is None or known.generation != generation:
                    seen.awaits[model] = known = _Lack(generation, seen.heard)
            else:
                seen.awaits.pop(model, None)
                known = seen.lacks.get(model)
            return NOTHING if known is None else seen.heard - known.since

    def lacks(self, server: ServerState) -> Iterable[timedelta]:
        """Give, for each model that *server* received but does not serve, the time since the first report of this."""
        with self._mutex:
            seen = self._seen[server.name]
            heard = seen.heard
            return [] if heard is None else [heard - lack.since for lack in seen.lacks.values()]

    def note_served(self, model: ModelName, version: int) -> None:
        """Note that a server serves the version, which its reports do not name: as the canary of a deployment."""
        with self._mutex:
            self._served.add((model, version))

    def has_served(self, model: ModelName, version: int) -> bool:
        """Whether a server has reported serving the version."""
        with self._mutex:
            return (model, version) in self._served

    def _pass_time(self) -> None:
        steady = self._steady()
        passed = None if self._looked is None else steady - self._looked
        self._looked = steady
        if passed is not None and NOTHING <= passed <= self._longest_gap:
            self._time += passed
            return
        self._began = self._time
        self._knows_all = False
        for seen in self._seen.values():
            seen.heard = None

    def _note(self, server: ServerState, now: datetime) -> None:
        report = server.report
        self._served |= {
            (line.model, line.version_serving) for line in report.convergence if line.version_serving is not None
        }
        known = self._seen.get(server.name)
        if known is None:
            fresh = self._knows_all or NOTHING <= now - server.received_at <= _RECENT
            known = self._seen[server.name] = _Seen(report.epoch, report.seq, self._time if fresh else None)
        elif (known.epoch, known.seq) == (report.epoch, report.seq):
            return
        elif known.epoch != report.epoch:
            known = self._seen[server.name] = _Seen(report.epoch, report.seq, self._time)
        else:
            known.seq, known.heard = report.seq, self._time
        if known.heard is not None:
            known.lacks = {
                line.model: _Lack(line.generation_desired, _since(known, line.model, line.generation_desired))
                for line in report.convergence
                if line.generation_serving < line.generation_desired and not line.unloaded
            }

    def _presence(self, server: ServerState, silence: timedelta) -> Presence:
        if server.report.leaving:
            return Presence.STOPPED
        seen = self._seen[server.name]
        if seen.heard is None:
            return Presence.SILENT if self._time - self._began > silence else Presence.UNKNOWN
        return Presence.REPORTING if self._time - seen.heard <= silence else Presence.SILENT


def _since(seen: _Seen, model: ModelName, generation: int) -> timedelta:
    known = seen.lacks.get(model)
    return known.since if known is not None and known.generation == generation else seen.heard or NOTHING
