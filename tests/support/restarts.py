"""
Restarts of servers under delays of every kind, simulated: one world per restart, over memory, by a clock of its own.

Every version of the restarts is healthy, though loads of it may fail. Whatever healing says of a version is then wrong,
and so is every rollback; an incident about a server that received a deployment and lacks it for 30 s is right. The
worlds of the faults hold a version that really cannot be loaded: it must be found out, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from mendel.healing import Incident, Monitor
from mendel.values import (
    Deployment,
    ModelConvergence,
    ModelName,
    ServerReport,
    VersionCounters,
    VersionRef,
    VersionUuid,
)

SECOND = timedelta(seconds=1)
LATE = 30
"""After how many seconds an incident about a server shall open (``healing.converge_within``)."""
PAUSES = (2.0, 5.0, 15.0, 60.0)
"""After how many seconds a server tries a failed load again."""
GRACE = 8
"""How many seconds more it may take: two reports, one look, and the machine is busy."""


@dataclass
class Line:
    """
    What a server has of one model.

    ``routes`` are the versions that shall get traffic, production first; ``serving`` is the newest generation that was
    served whole, and ``version`` the production version that is served.
    """

    generation: int
    routes: tuple[int, ...]
    left: float
    loaded: set[int] = field(default_factory=set)
    serving: int = 0
    version: int | None = None
    failed: int | None = None
    error: tuple[str, bool] | None = None
    failed_loads: int = 1
    retry_at: float = 0.0

    @property
    def missing(self) -> int | None:
        """The version to load next."""
        return next((version for version in self.routes if version not in self.loaded), None)

    def fail(self, error: tuple[str, bool], now: float) -> None:
        """A load of the missing version failed; it is tried again after a pause."""
        again = self.error is not None and (self.failed, self.error[1]) == (self.missing, error[1])
        self.failed_loads = self.failed_loads + 1 if again else 1
        self.failed, self.error = self.missing, error
        self.retry_at = now + PAUSES[min(self.failed_loads, len(PAUSES)) - 1]

    def succeed(self) -> None:
        """The missing version is loaded."""
        self.loaded.add(self.missing or 0)
        self.version = self.routes[0]
        if self.missing is None:
            self.serving, self.failed, self.error, self.failed_loads = self.generation, None, None, 1


@dataclass
class SimulatedServer:
    """A server that loads one model after the other, and reports every two seconds."""

    world: World
    name: str
    load_seconds: float = 0.5
    epoch: int = 0
    seq: int = 0
    up: bool = True
    starts_at: float = 0.0
    deaf_until: float = 0.0
    mute_until: float = 0.0
    no_store_until: float = 0.0
    no_library_until: float = 0.0
    hiccups: int = 0
    load_kills: int = 0
    clock_ahead: timedelta = timedelta(0)
    lines: dict[ModelName, Line] = field(default_factory=dict)
    lacking: dict[ModelName, float] = field(default_factory=dict)
    longest_lack: float = 0.0
    next_report: float = 0.0

    def stop(self, *, graceful: bool, down_for: float) -> None:
        """End; what was loaded is lost."""
        if graceful:
            self.report(leaving=True)
        self.up, self.starts_at, self.lines, self.lacking = False, self.world.now + down_for, {}, {}

    def lose_workers(self) -> None:
        """All workers end; the supervisor goes on reporting, and new workers load everything again."""
        for line in self.lines.values():
            line.loaded, line.serving, line.version, line.left = set(), 0, None, self.load_seconds

    def tick(self, seconds: float) -> None:
        """Let *seconds* pass."""
        now = self.world.now
        if not self.up:
            if now < self.starts_at:
                return
            self.up, self.epoch, self.seq = True, self.epoch + 1, 0
        if now >= self.deaf_until:
            self._receive(now)
        self._load(seconds)
        if now >= self.next_report and now >= self.mute_until:
            self.next_report = now + 2
            self.report()

    def _receive(self, now: float) -> None:
        for model, deployment in self.world.deployments().items():
            known = self.lines.get(model)
            if deployment.production is None or (known and known.generation == deployment.generation):
                continue
            routes = tuple(route.version for route in deployment.routes)
            line = Line(generation=deployment.generation, routes=routes, left=self.load_seconds)
            if known is not None:
                line.loaded, line.serving, line.version = known.loaded, known.serving, known.version
                if line.missing is None:
                    line.serving, line.version = line.generation, routes[0]
            self.lines[model] = line

    def _load(self, seconds: float) -> None:
        for line in self.lines.values():
            if line.missing is None or self.world.now < line.retry_at:
                continue
            line.left -= seconds
            error = self._trouble(line)
            if error is not None:
                line.fail(error, self.world.now)
            elif line.left <= 0:
                line.succeed()
            if error is not None or line.left <= 0:
                line.left = self.load_seconds
            return

    def _trouble(self, line: Line) -> tuple[str, bool] | None:
        """Why the load fails now, and whether the server calls that the version's fault."""
        if self.world.now < self.no_store_until:
            return "The hub does not answer", False
        if line.left > 0:
            return None
        if line.missing in self.world.bad_versions:
            return "bad pickle", True
        if line.missing in self.world.deadly_versions:
            return "Calling the version ended the worker process", True
        if self.world.now < self.no_library_until:
            return "No module named 'numpy'", True
        return self._passing_trouble(line)

    def _passing_trouble(self, line: Line) -> tuple[str, bool] | None:
        if self.hiccups > 0 and line.error is None:  # no load twice in a row: that would be evidence
            self.hiccups -= 1
            return "unexpected end of file", True
        if self.load_kills > 0:
            self.load_kills -= 1
            return "Loading ended the worker process: signal 9 (SIGKILL)", False
        return None

    def report(self, *, leaving: bool = False) -> None:
        """Send a report, which a busy machine may lose."""
        world, lines = self.world, []
        self.seq += 1
        for model, line in self.lines.items():
            text, at_fault = line.error or (None, False)
            lines.append(
                ModelConvergence(
                    model=model,
                    generation_desired=line.generation,
                    generation_serving=line.serving,
                    version_serving=line.version,
                    failed_version=line.failed,
                    error=text,
                    version_at_fault=at_fault,
                    failed_loads=line.failed_loads,
                    ended_workers=line.error is not None and line.failed in world.deadly_versions,
                )
            )
        if world.rng.random() < world.reports_lost:
            return
        world.house.registry.performance.record_server_report(
            ServerReport(
                server=self.name,
                epoch=f"{self.name}-{self.epoch}",
                seq=self.seq,
                at=world.house.clock() + self.clock_ahead,
                revision=1,
                ready=bool(lines),
                convergence=tuple(lines),
                counters=tuple(self._counters()),
                spool={},
                leaving=leaving,
            )
        )
        if not leaving:
            self._note_lacks()

    def _counters(self) -> Iterable[VersionCounters]:
        for model, line in self.lines.items():
            if line.version is not None:
                count = 20 * self.seq
                yield VersionCounters(
                    model=model,
                    version=line.version,
                    requests=count,
                    rows=count,
                    latency=(count, *([0] * 24)),
                )

    def _note_lacks(self) -> None:
        now = self.world.now
        for model, line in self.lines.items():
            if line.serving == line.generation:
                self.lacking.pop(model, None)
            else:
                since = self.lacking.setdefault(model, now)
                self.longest_lack = max(self.longest_lack, now - since)


class World:
    """A hub, its servers and their models; ``now`` counts the seconds of the monotonic clock."""

    def __init__(self, house, make_watch, rng: random.Random, *, models: int = 2, servers: int = 1):
        self.house, self.make_watch, self.rng = house, make_watch, rng
        self.now = 0.0
        self.models = [ModelName(f"m{place:02}") for place in range(models)]
        self.bad_versions: set[int] = set()
        self.deadly_versions: set[int] = set()
        self.reports_lost = 0.0
        self.hub_away_until = 0.0
        self.look_every = 1.0
        self.next_look = 0.0
        self.opened: dict[str, float] = {}
        self.fresh = 1000
        self.start_hub()
        for place, model in enumerate(self.models):
            for number in (1, 2):
                house.add_version(number, model=model, uuid=VersionUuid(f"m-{10 * place + number:032x}"))
                house.registry.lifecycle.promote(VersionRef(model, number), by="ann")
        self.expected = dict.fromkeys(self.models, 2)
        self.servers = [SimulatedServer(self, f"s{place}") for place in range(servers)]

    def deployments(self) -> dict[ModelName, Deployment]:
        """What the hub wants; while it is away, nothing that is new."""
        if self.now >= self.hub_away_until:
            self._wanted = {model: self.house.registry.lifecycle.deployment(model) for model in self.models}
        return self._wanted

    def start_hub(self) -> None:
        """Start the hub anew: it remembers what is stored."""
        self.monitor = Monitor(self.house.registry, None, self.make_watch(self.house))

    def new_version(self, *, bad: bool = False) -> VersionRef:
        """Register a new version of the first model."""
        model = self.models[0]
        number = 1 + max(record.number for record in self.house.registry.versions.of(model))
        self.fresh += 1
        self.house.add_version(number, model=model, uuid=VersionUuid(f"m-{self.fresh:032x}"))
        if bad:
            self.bad_versions.add(number)
        return VersionRef(model, number)

    def promote(self, *, bad: bool = False) -> VersionRef:
        """Promote a new version of the first model."""
        ref = self.new_version(bad=bad)
        self.house.registry.lifecycle.promote(ref, by="ann")
        if not bad:
            self.expected[ref.model] = ref.number
        return ref

    def canary(self, *, bad: bool = False) -> VersionRef:
        """Give a tenth of the first model's traffic to a new version."""
        ref = self.new_version(bad=bad)
        self.house.registry.side_routes.canary(ref.model, ref.number, 0.1, by="ann")
        return ref

    def run(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time pass; servers work and report, the hub looks at every model."""
        for _ in range(int(seconds / step)):
            self.now += step
            self.house.clock.advance(step * SECOND)
            away = self.now < self.hub_away_until
            for server in self.servers:
                server.mute_until = max(server.mute_until, self.hub_away_until)
                server.tick(step)
            if not away and self.now >= self.next_look:
                self.next_look = self.now + self.look_every
                self._look()

    def _look(self) -> None:
        for model in self.models:
            look = self.monitor.check_counters(model, self.house.clock())
            self.house.healing.respond_to(look, self.house.clock())
        self.house.play()
        for incident in self.incidents():
            self.opened.setdefault(incident.id, self.now)

    def incidents(self) -> tuple[Incident, ...]:
        """Every incident there was."""
        return self.house.store(lambda store: store.incidents(limit=10_000))


@dataclass(frozen=True)
class Outcome:
    """How one restart ended."""

    about_servers: int
    wrong_incidents: int
    wrong_rollbacks: int
    missed: int
    still_open: int
    longest_lack: float


def restart(house, make_watch, seed: int, delay: Delay) -> Outcome:
    """Play one restart under *delay* and judge what healing made of it."""
    rng = random.Random(seed)
    world = World(house, make_watch, rng, models=delay.models, servers=delay.servers)
    world.run(rng.uniform(10, 40))
    for server in world.servers:
        server.longest_lack = 0.0
    delay.play(world)
    world.run(20)
    found = world.incidents()
    blamed = [incident for incident in found if incident.cause.family != "servers"]
    production = {model: house.registry.lifecycle.deployment(model).production for model in world.models}
    lack = max(server.longest_lack for server in world.servers)
    due = lack > LATE + GRACE and not delay.blinds_hub
    return Outcome(
        about_servers=len(found) - len(blamed),
        wrong_incidents=len(blamed),
        wrong_rollbacks=sum(production[model] != world.expected[model] for model in world.models),
        missed=int(due and len(found) == len(blamed)),
        still_open=sum(incident.status.unresolved for incident in found),
        longest_lack=lack,
    )


@dataclass(frozen=True)
class Delay:
    """One kind of delay: what happens in the world, and for how long it is watched."""

    name: str
    play: Callable[[World], None]
    models: int = 2
    servers: int = 1
    blinds_hub: bool = False


def _plain(world: World, *, graceful: bool, load: float = 0.5, down: tuple[float, float] = (1, 15)) -> None:
    for server in world.servers:
        server.load_seconds = load
        server.stop(graceful=graceful, down_for=world.rng.uniform(*down))
    world.run(down[1] + load * len(world.models) + 10)


def _one_of_several(world: World) -> None:
    slow = world.servers[0]
    slow.load_seconds = world.rng.uniform(20, 60)
    slow.stop(graceful=world.rng.random() < 0.5, down_for=world.rng.uniform(1, 10))
    world.run(10 + slow.load_seconds * len(world.models) + 10)


def _lost_disk(world: World) -> None:
    world.servers[0].stop(graceful=False, down_for=10_000)
    fresh = SimulatedServer(world, "fresh", load_seconds=world.rng.uniform(1, 20), starts_at=world.now + 5, up=False)
    fresh.no_store_until = world.now + world.rng.uniform(5, 60)
    world.servers.append(fresh)
    world.run(70 + fresh.load_seconds * len(world.models))


def _store_away(world: World) -> None:
    for server in world.servers:
        server.stop(graceful=True, down_for=2)
        server.no_store_until = world.now + world.rng.uniform(10, 90)
    world.run(110)


def _hub_paused(world: World) -> None:
    for server in world.servers:
        server.load_seconds = world.rng.uniform(1, 40)
        server.stop(graceful=world.rng.random() < 0.5, down_for=world.rng.uniform(1, 20))
    world.run(world.rng.uniform(0, 10))
    world.hub_away_until = world.now + world.rng.uniform(20, 120)
    world.run(240)


def _hub_restarted(world: World) -> None:
    for server in world.servers:
        server.load_seconds = world.rng.uniform(1, 30)
        server.stop(graceful=False, down_for=world.rng.uniform(1, 20))
    for _ in range(3):
        world.run(world.rng.uniform(5, 25))
        world.start_hub()
    world.run(70)


def _suspended(world: World) -> None:
    _plain(world, graceful=True, load=world.rng.uniform(1, 10))
    world.house.clock.set(timedelta(hours=world.rng.uniform(1, 12)))
    world.run(40)


def _hub_clock_set(world: World) -> None:
    for server in world.servers:
        server.load_seconds = world.rng.uniform(1, 20)
        server.stop(graceful=world.rng.random() < 0.5, down_for=5)
    world.run(world.rng.uniform(3, 15))
    world.house.clock.set(timedelta(seconds=world.rng.choice([-1, 1]) * world.rng.uniform(30, 7200)))
    world.run(80)


def _server_clock_set(world: World) -> None:
    for server in world.servers:
        server.load_seconds = world.rng.uniform(1, 20)
        server.stop(graceful=world.rng.random() < 0.5, down_for=5)
        server.clock_ahead = timedelta(seconds=world.rng.uniform(-7200, 7200))
    world.run(80)


def _busy(world: World) -> None:
    world.reports_lost, world.look_every = 0.3, world.rng.uniform(1, 4)
    _plain(world, graceful=world.rng.random() < 0.5, load=world.rng.uniform(2, 15), down=(5, 30))


def _cut_off(world: World) -> None:
    for server in world.servers:
        server.stop(graceful=False, down_for=3)
    world.run(10)
    for server in world.servers:
        server.mute_until = server.deaf_until = world.now + world.rng.uniform(5, 60)
    world.run(90)


def _promotion_while_down(world: World) -> None:
    for server in world.servers:
        server.load_seconds = world.rng.uniform(1, 25)
        server.stop(graceful=world.rng.random() < 0.5, down_for=world.rng.uniform(10, 60))
    world.promote()
    world.run(140)


def _promotion_while_loading(world: World) -> None:
    for server in world.servers:
        server.load_seconds = world.rng.uniform(10, 25)
        server.stop(graceful=True, down_for=2)
    world.run(world.rng.uniform(5, 20))
    world.promote()
    world.run(110)


def _hiccups(world: World) -> None:
    for server in world.servers:
        server.hiccups = world.rng.randint(1, len(world.models))
        server.load_seconds = world.rng.uniform(0.5, 10)
        server.stop(graceful=world.rng.random() < 0.5, down_for=world.rng.uniform(1, 30))
    if world.rng.random() < 0.7:
        world.promote()
    world.run(60 + world.servers[0].load_seconds * len(world.models) * 2)


def _hiccup_of_a_promotion(world: World) -> None:
    for server in world.servers:
        server.hiccups, server.load_seconds = 1, world.rng.uniform(0.5, 20)
    world.promote()
    world.run(80)


def _hiccup_of_a_canary(world: World) -> None:
    for server in world.servers:
        server.hiccups, server.load_seconds = 1, world.rng.uniform(0.5, 20)
    world.canary()
    world.run(80)


def _library_lost(world: World) -> None:
    for server in world.servers:
        server.no_library_until = world.now + world.rng.uniform(40, 90)
        server.stop(graceful=world.rng.random() < 0.5, down_for=world.rng.uniform(1, 10))
    world.run(180)


def _library_lost_on_one(world: World) -> None:
    world.servers[0].no_library_until = world.now + world.rng.uniform(40, 90)
    world.servers[0].load_seconds = world.rng.uniform(0.5, 5)
    world.promote() if world.rng.random() < 0.5 else world.canary()
    world.run(180)


def _memory_short(world: World) -> None:
    for server in world.servers:
        server.load_kills = world.rng.randint(1, 3)
        server.stop(graceful=False, down_for=world.rng.uniform(1, 10))
    world.promote()
    world.run(150)


DELAYS: Sequence[Delay] = (
    Delay("graceful stop and start", lambda world: _plain(world, graceful=True)),
    Delay("killed and started", lambda world: _plain(world, graceful=False)),
    Delay("stopped for long", lambda world: _plain(world, graceful=True, down=(60, 120))),
    Delay("loads take 20 s", lambda world: _plain(world, graceful=True, load=20)),
    Delay("loads take 90 s", lambda world: _plain(world, graceful=False, load=90)),
    Delay("22 models at once", lambda world: _plain(world, graceful=True, load=world.rng.uniform(1, 4)), models=22),
    Delay("one of three servers is slow", _one_of_several, servers=3),
    Delay("lost disk", _lost_disk),
    Delay("store away", _store_away),
    Delay("hub paused meanwhile", _hub_paused, blinds_hub=True),
    Delay("hub restarted meanwhile", _hub_restarted, blinds_hub=True),
    Delay("machine suspended", _suspended),
    Delay("hub's clock set", _hub_clock_set),
    Delay("server's clock set", _server_clock_set),
    Delay("busy machine", _busy, servers=2, blinds_hub=True),
    Delay("cut off from the hub", _cut_off, blinds_hub=True),
    Delay("promotion while down", _promotion_while_down),
    Delay("promotion while loading", _promotion_while_loading),
    Delay("first loads fail at a restart", _hiccups),
    Delay("first load of a promotion fails", _hiccup_of_a_promotion, servers=2),
    Delay("first load of a canary fails", _hiccup_of_a_canary),
    Delay("library lost at a restart", _library_lost),
    Delay("library lost on one of three", _library_lost_on_one, servers=3),
    Delay("loads killed for lack of memory", _memory_short),
)


@dataclass(frozen=True)
class Fault:
    """
    One way in which a version that cannot be loaded comes to servers.

    ``bring`` does so and gives the version; ``within`` is the time in seconds in which the version must be found out.
    """

    name: str
    bring: Callable[[World], VersionRef]
    servers: int = 1
    within: float = 60


@dataclass(frozen=True)
class Verdict:
    """What healing made of a version that cannot be loaded; ``seconds`` is None if the version was not undone."""

    seconds: float | None
    blamed: tuple[VersionRef, ...]
    wrong_rollbacks: int


def convict(house, make_watch, seed: int, fault: Fault) -> tuple[VersionRef, Verdict]:
    """Bring a bad version into a world by *fault*, and judge what healing made of it."""
    world = World(house, make_watch, random.Random(seed), servers=fault.servers)
    world.run(world.rng.uniform(10, 40))
    bad = fault.bring(world)
    began, seconds = world.now, None
    while world.now < began + 240:
        world.run(1)
        routed = {route.version for route in house.registry.lifecycle.deployment(bad.model).routes}
        if seconds is None and bad.number not in routed:
            seconds = world.now - began
    production = {model: house.registry.lifecycle.deployment(model).production for model in world.models}
    blamed = [incident.ref for incident in world.incidents() if incident.cause.family != "servers"]
    wrong = sum(production[model] != world.expected[model] for model in world.models)
    return bad, Verdict(seconds=seconds, blamed=tuple(blamed), wrong_rollbacks=wrong)


def _bad_after_slow_loads(world: World) -> VersionRef:
    for server in world.servers:
        server.load_seconds = world.rng.uniform(10, 25)
    return world.promote(bad=True)


def _bad_while_down(world: World) -> VersionRef:
    for server in world.servers:
        server.stop(graceful=world.rng.random() < 0.5, down_for=world.rng.uniform(5, 30))
    return world.promote(bad=True)


def _bad_while_busy(world: World) -> VersionRef:
    world.reports_lost, world.look_every = 0.3, world.rng.uniform(1, 4)
    return world.promote(bad=True)


def _bad_while_the_hub_pauses(world: World) -> VersionRef:
    bad = world.promote(bad=True)
    world.run(3)
    world.hub_away_until = world.now + world.rng.uniform(10, 60)
    return bad


def _bad_and_then_the_clock(world: World) -> VersionRef:
    bad = world.promote(bad=True)
    world.run(world.rng.uniform(1, 20))
    world.house.clock.set(timedelta(seconds=world.rng.choice([-1, 1]) * world.rng.uniform(30, 7200)))
    return bad


def _bad_when_called(world: World) -> VersionRef:
    """The version is loaded and answers for a while; then its calls end the workers, which load it no more."""
    former = dict(world.expected)
    bad = world.promote()
    world.expected = former
    world.run(world.rng.uniform(10, 90))
    world.deadly_versions.add(bad.number)
    for server in world.servers:
        server.lose_workers()
    return bad


FAULTS: Sequence[Fault] = (
    Fault("promoted", lambda world: world.promote(bad=True)),
    Fault("promoted on three servers", lambda world: world.promote(bad=True), servers=3),
    Fault("promoted, loads are slow", _bad_after_slow_loads, within=100),
    Fault("promoted while down", _bad_while_down, servers=2, within=100),
    Fault("promoted on a busy machine", _bad_while_busy, servers=2, within=120),
    Fault("promoted, then the hub pauses", _bad_while_the_hub_pauses, within=140),
    Fault("promoted, then the clock is set", _bad_and_then_the_clock, within=80),
    Fault("served, then its calls end workers", _bad_when_called, servers=2, within=100),
    Fault("canary", lambda world: world.canary(bad=True)),
    Fault("canary on three servers", lambda world: world.canary(bad=True), servers=3),
)


def fault_table(verdicts: Iterable[tuple[Fault, VersionRef, Verdict]]) -> str:
    """The verdicts by fault, for people."""
    by_name: dict[str, list[tuple[VersionRef, Verdict]]] = {}
    for fault, bad, verdict in verdicts:
        by_name.setdefault(fault.name, []).append((bad, verdict))
    heads = ("bad versions", "undone", "slowest", "others blamed", "wrong rollbacks")

    def row(name: str, found: Sequence[tuple[VersionRef, Verdict]]) -> str:
        undone = [verdict.seconds for _, verdict in found if verdict.seconds is not None]
        cells = (
            len(found),
            len(undone),
            f"{max(undone, default=0):.0f} s",
            sum(ref != bad for bad, verdict in found for ref in verdict.blamed),
            sum(verdict.wrong_rollbacks for _, verdict in found),
        )
        return f"{name:<33}" + "".join(f"{cell:>17}" for cell in cells)

    everything = [one for found in by_name.values() for one in found]
    lines = [f"{'':<33}" + "".join(f"{head:>17}" for head in heads)]
    return "\n".join([*lines, *(row(name, found) for name, found in by_name.items()), row("all", everything)])


def table(outcomes: Iterable[tuple[Delay, Outcome]]) -> str:
    """The outcomes by kind of delay, for people."""
    by_name: dict[str, list[Outcome]] = {}
    for delay, outcome in outcomes:
        by_name.setdefault(delay.name, []).append(outcome)
    heads = ("restarts", "longest lack", "about servers", "wrong incidents", "wrong rollbacks", "missed", "left open")

    def row(name: str, found: Sequence[Outcome]) -> str:
        cells = (
            len(found),
            f"{max(one.longest_lack for one in found):.0f} s",
            sum(one.about_servers for one in found),
            sum(one.wrong_incidents for one in found),
            sum(one.wrong_rollbacks for one in found),
            sum(one.missed for one in found),
            sum(one.still_open for one in found),
        )
        return f"{name:<33}" + "".join(f"{cell:>17}" for cell in cells)

    everything = [one for found in by_name.values() for one in found]
    lines = [f"{'':<33}" + "".join(f"{head:>17}" for head in heads)]
    return "\n".join([*lines, *(row(name, found) for name, found in by_name.items()), row("all", everything)])
