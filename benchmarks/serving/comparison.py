"""Start one server after the other, and measure the cases of a plan on each."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from measuring import Case, Result, measure
from mendel_servers import MendelSettings, register, serving
from own_clients import grpc_aio_floor, over_zmq
from peer_servers import mlserver, triton
from plans import Plan, Shape
from report import BASE, MANY, Pair, Process, Report
from servers import Route, Server
from training import Fitted, fit
from workload import Question, questions

PRODUCTS = ("mendel", "mlserver", "triton")
PARTS = (
    *(f"{product}-{door}" for product in PRODUCTS for door in ("rest", "grpc")),
    *("plain", "zmq", "floor", "process", "bodies", "logging"),
)
BODIES = 8
"""The number of bodies that are sent at once."""
BESIDE = 16
"""The number of different requests of the client beside."""
MEDIUM: Shape = (32, 1)


@cache
def fitted(model: str) -> Fitted:
    return fit(model)


@cache
def asked(what: str) -> list[Question]:
    """The requests for *what*, for example ``logistic, 100 rows``."""
    model, _, size = what.partition(", ")
    return questions(fitted(model), rows=int(size.split()[0]), count=BESIDE)


@dataclass(slots=True, kw_only=True)
class Comparison:
    """One run: the cases, the parts of ``PARTS`` that are wanted, and what was measured so far."""

    plan: Plan
    wanted: frozenset[str]
    room: Path
    report: Report = field(default_factory=Report)
    _versions: dict[str, Path] = field(default_factory=dict)
    _rooms: int = 0

    def run(self) -> None:
        """Measure everything that is wanted."""
        first, *others = self.plan.mendel
        self._mendel(first)
        for settings in others:
            if self._wants("mendel"):
                with self._serving("logistic", settings) as server:
                    self._base(server)
        if self.plan.extras:
            self._extras(first)
        for product, start, numbers in (
            ("mlserver", mlserver, self.plan.mlserver_workers),
            ("triton", triton, self.plan.triton_instances),
        ):
            for workers in numbers:
                try:
                    self._peer(product, start, workers, extras=self.plan.extras and workers == numbers[0])
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    self.report.failures.append(f"{product}, {workers} workers: {str(error)[-500:]}")

    def _mendel(self, settings: MendelSettings) -> None:
        if not (self._wants("mendel") or {"plain", "zmq", "floor", "bodies"} & self.wanted):
            return
        with self._serving("logistic", settings) as server:
            self._base(server)
            if self.plan.extras:
                self._measure(server, "logistic, 100 rows", MEDIUM)
                self._plain(server)
                self._bodies(server)
            self._floor(server)

    def _extras(self, settings: MendelSettings) -> None:
        if self._wants("mendel"):
            with self._serving("boosting", settings) as server:
                self._measure(server, "boosting, 1 row", MEDIUM)
        if "process" in self.wanted:
            with self._serving("logistic", replace(settings, backend="process")) as server:
                self._measure(server, f"{BASE}, own process", (MANY, 1))
        if "logging" in self.wanted:
            self._logging(settings)

    def _peer(self, product: str, start: Any, workers: int, *, extras: bool) -> None:
        if not self._wants(product):
            return
        models = ("logistic", "boosting") if extras else ("logistic",)
        with start(models, workers, self._new_room()) as servers, self._watched(*servers):
            for server in servers:
                self._base(server)
                if extras:
                    self._measure(server, "logistic, 100 rows", MEDIUM)
                    self._measure(server, "boosting, 1 row", MEDIUM)

    def _wants(self, product: str) -> bool:
        return bool({f"{product}-rest", f"{product}-grpc"} & self.wanted)

    def _base(self, server: Server) -> None:
        for route in self._routes(server, "logistic"):
            for shape in self.plan.shapes[route.door]:
                self._one(server, route, BASE, shape)

    def _measure(self, server: Server, what: str, shape: Shape) -> None:
        for route in self._routes(server, what.partition(",")[0]):
            self._one(server, route, what, shape)

    def _routes(self, server: Server, model: str) -> list[Route]:
        """The routes of the Open Inference Protocol that are wanted."""
        return [
            route
            for route in server.routes
            if route.form == "v2"
            and route.model.startswith(model)
            and f"{server.product}-{route.door.lower()}" in self.wanted
        ]

    def _one(self, server: Server, route: Route, what: str, shape: Shape) -> None:
        case = Case(what=what, connections=shape[0], streams=shape[1])
        self.report.results.append(measure(server, route, asked(what), case, seconds=self.plan.seconds))

    def _plain(self, server: Server) -> None:
        """The plain routes and ZMQ."""
        for route in server.routes:
            if route.form == "plain" and route.door != "ZMQ" and "plain" in self.wanted:
                self._one(server, route, BASE, (MANY, 1))
            elif route.door == "ZMQ" and "zmq" in self.wanted:
                for in_flight in (1, 32, MANY):
                    case = Case(what=BASE, connections=in_flight)
                    result = over_zmq(server, route, asked(BASE)[0], case, seconds=self.plan.seconds)
                    self.report.results.append(result)

    def _bodies(self, server: Server) -> None:
        """Eight bodies at once against one: over REST with wrk, over gRPC with eight h2load at the same time."""
        if "bodies" not in self.wanted:
            return
        for route in self._routes(server, "logistic"):
            case = Case(what=BASE, connections=MANY // BODIES * BODIES)
            eight, one = asked(BASE)[:BODIES], [asked(BASE)[0]] * BODIES
            of = measure(server, route, eight, case, seconds=self.plan.seconds, bodies=BODIES)
            to = measure(server, route, one, case, seconds=self.plan.seconds, bodies=BODIES)
            pair = Pair(
                what=f"{route.door}, {case.connections} in flight, {of.tool}",
                of=replace(of, server="eight bodies"),
                to=replace(to, server="one body"),
            )
            self.report.bodies.append(pair)

    def _floor(self, server: Server) -> None:
        if "floor" not in self.wanted:
            return
        route = next(one for one in server.routes if one.door == "gRPC" and one.form == "v2")
        case = Case(what=BASE, connections=1, streams=MANY)
        room = self._new_room()
        room.mkdir()
        self.report.floor.append(grpc_aio_floor(server, route, asked(BASE), case, seconds=self.plan.seconds, room=room))

    def _logging(self, settings: MendelSettings) -> None:
        """Two servers, one of them without a prediction log, take turns; the medians of their rates are compared."""
        with ExitStack() as stack:
            servers = [
                stack.enter_context(self._serving("logistic", replace(settings, logged=logged)))
                for logged in (True, False)
            ]
            for door in ("REST", "gRPC"):
                runs: list[list[Result]] = [[], []]
                for _ in range(self.plan.rounds):
                    for server, kept in zip(servers, runs, strict=True):
                        route = next(one for one in server.routes if one.door == door and one.form == "v2")
                        case = Case(what=BASE, connections=MANY)
                        kept.append(measure(server, route, asked(BASE), case, seconds=self.plan.seconds))
                of, to = map(_median, runs)
                self.report.logging.append(Pair(what=f"{door}, {MANY} in flight", of=of, to=to))

    @contextmanager
    def _serving(self, model: str, settings: MendelSettings) -> Iterator[Server]:
        if model not in self._versions:
            room = self._new_room()
            room.mkdir()
            self._versions[model] = register(fitted(model), room)
        started = serving(self._versions[model], model, settings, self._new_room())
        with started as server, self._watched(server):
            yield server

    @contextmanager
    def _watched(self, *servers: Server) -> Iterator[None]:
        """Add the start and the memory of *servers*, which are the same processes, to the report."""
        first, idle, before = servers[0], servers[0].memory_mb, len(self.report.results)
        yield
        loaded = max((one.memory_mb for one in self.report.results[before:]), default=0.0)
        self.report.processes.append(
            Process(
                server=first.name if len(servers) == 1 else first.product,
                workers=first.workers,
                start_s=first.start_s,
                idle_mb=idle,
                loaded_mb=loaded,
            )
        )

    def _new_room(self) -> Path:
        self._rooms += 1
        return self.room / str(self._rooms)


def _median(runs: Sequence[Result]) -> Result:
    """The run with the median rate; runs that do not count are taken only if there is no other."""
    counted = [one for one in runs if not one.invalid] or list(runs)
    middle = statistics.median_low([one.load.rate for one in counted])
    return next(one for one in counted if one.load.rate == middle)
