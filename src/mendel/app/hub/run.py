"""Run a hub, the control plane of one data directory, for `mendel hub`."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Final
from urllib.parse import urlsplit

import structlog
import uvicorn
from starlette.types import ASGIApp

from mendel.adapters.processes.process_logs import LogStyle, log_crashes, write_log
from mendel.app.clock import steady_time, utc_now
from mendel.app.directory import DataDirectory, HubAddress
from mendel.app.hub.background_jobs import BackgroundJob, BackgroundJobs
from mendel.app.hub.minute_snapshots import MinuteSnapshots
from mendel.app.settings import HubSettings, Settings
from mendel.app.wiring import LiveRooms, open_live_rooms
from mendel.durable import ChangeWatch, Leases, OutboxRelay, Transaction, UnitOfWork
from mendel.durable.ports import Lease
from mendel.errors import Fenced, MendelError, PortInUse
from mendel.transports.hub import create_app
from mendel.values import ModelName

_log = structlog.get_logger("mendel.hub")

LEASE = "hub"
EXECUTOR = "hub"
"""The executor id of workflows; constant, so that a restarted hub resumes the workflows of a killed hub."""
_LEASE_FOR = timedelta(seconds=15)
_TICK_EVERY = timedelta(seconds=1)
_RELAY_EVERY = timedelta(milliseconds=100)
_LONGEST_REST = timedelta(seconds=3)
"""The longest time without a look at the outbox or at the models while this hub commits nothing."""
_CLEANUP_EVERY = timedelta(minutes=1)
_SNAPSHOTS_EVERY = timedelta(seconds=20)
_MERGE_EVERY = timedelta(hours=1)
_IDLE_S: Final = 75
"""
How long an idle connection stays open, in seconds: longer than clients keep one. A connection that the hub closes while
a client sends its next request on it ends that request without an answer, and nobody knows whether it was carried out.
"""


def run_hub(settings: Settings) -> None:
    """
    Run a hub until SIGTERM or SIGINT.

    Raises:
        DirectoryInUse: Another hub runs with the same data directory.
        PortInUse: Another program listens on the port.
        SchemaTooNew: The directory was written by a newer Mendel.
    """
    write_log(LogStyle(level="WARNING", structured=settings.json_log(terminal=sys.stderr.isatty())))
    data = DataDirectory(settings.root)
    with data.owned(), _listening(settings.hub) as listener:
        port = listener.getsockname()[1]
        address = HubAddress(url=settings.hub.url or f"http://{_reachable(settings.hub.host)}:{port}", pid=os.getpid())
        with open_live_rooms(settings, executor=EXECUTOR, acquire=take_lease) as live:

            def stopping() -> bool:
                return server.should_exit

            jobs = BackgroundJobs(jobs_of(live, settings.hub), utc_now, lambda: _stop(server))
            parts = live.rooms.parts(workflows=live.workflows, jobs=jobs, stopping=stopping)
            app = create_app(parts, hosts=_names(settings.hub))
            server = uvicorn.Server(server_config(app))
            with jobs:
                log_crashes()
                data.announce(address)
                with _stopped_by_signals(server):
                    server.run(sockets=[listener])
            _sign_last(live)


def _sign_last(live: LiveRooms) -> None:
    """Sign the ledger when the hub stops; what cannot be signed or stored now waits for the next start."""
    try:
        live.rooms.notary.checkpoint(utc_now())
    except MendelError as error:
        _log.warning("last_checkpoint_failed", error=str(error))


def server_config(app: ASGIApp) -> uvicorn.Config:
    """Make the configuration of the hub's HTTP server."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=5,
    )


def _names(settings: HubSettings) -> frozenset[str]:
    """Give the host names that requests to the hub may use, besides local names such as ``localhost``."""
    return frozenset({settings.host, urlsplit(settings.url).hostname or settings.host})


def _reachable(host: str) -> str:
    """Give the host for a URL that reaches the hub from this machine, also if the hub listens on all addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - a name


def take_lease(unit: UnitOfWork) -> Lease:
    """
    Take or renew the lease of the database, which allows only one hub to change data.

    Raises:
        Fenced: Another hub holds the lease.
    """

    def acquire(tx: Transaction) -> Lease | None:
        return tx.store(Leases).acquire(LEASE, EXECUTOR, now=utc_now(), ttl=_LEASE_FOR)

    lease = unit.write(acquire)
    if lease is None:
        raise Fenced(
            "Another hub uses this database.",
            remedy=f"Stop the other hub, or wait {_LEASE_FOR.total_seconds():.0f} s until its lease expires.",
        )
    return lease


def jobs_of(live: LiveRooms, settings: HubSettings) -> tuple[BackgroundJob, ...]:
    """Give the background jobs of a hub."""
    rooms, stores = live.rooms, live.rooms.stores
    relay = OutboxRelay(rooms.unit, live.workflows)
    snapshots = MinuteSnapshots(rooms.registry, rooms.healing.looks, utc_now)

    def if_changed(act: Callable[[], object]) -> Callable[[], None]:
        watch = ChangeWatch(rooms.unit, steady_time, _LONGEST_REST)

        def look() -> None:
            if watch.changed():
                act()

        return look

    def each(check: Callable[[ModelName], object]) -> Callable[[], None]:
        return if_changed(lambda: [check(model) for model in rooms.registry.versions.models()])

    return (
        BackgroundJob(name="lease", every=_LEASE_FOR / 3, act=lambda: take_lease(stores.state)),
        BackgroundJob(name="relay", every=_RELAY_EVERY, act=if_changed(relay.start_pending)),
        BackgroundJob(name="clock", every=_TICK_EVERY, act=rooms.watch.tick),
        BackgroundJob(name="check-counters", every=settings.look_every, act=each(rooms.checks.check_counters_when_due)),
        BackgroundJob(name="check-log", every=settings.look_every, act=each(rooms.checks.check_log_when_due)),
        BackgroundJob(name="snapshots", every=_SNAPSHOTS_EVERY, act=snapshots.make),
        BackgroundJob(name="merge-snapshots", every=_MERGE_EVERY, act=snapshots.merge_old),
        BackgroundJob(name="promotions", every=_TICK_EVERY, act=if_changed(rooms.registry.promotions.carry_out_due)),
        BackgroundJob(
            name="canaries", every=settings.look_every, act=if_changed(lambda: rooms.canaries.take_steps(utc_now()))
        ),
        BackgroundJob(name="ship", every=settings.ship_every, act=lambda: live.shipper.ship(utc_now())),
        BackgroundJob(name="anchor", every=settings.anchor_every, act=lambda: rooms.notary.checkpoint(utc_now())),
        BackgroundJob(
            name="anchor-decisions", every=_TICK_EVERY, act=if_changed(lambda: rooms.notary.follow(utc_now()))
        ),
        BackgroundJob(
            name="artifact-store", every=_CLEANUP_EVERY, act=stores.warm_up, ends_within=timedelta(seconds=1)
        ),
        BackgroundJob(
            name="artifact-mirror",
            every=_CLEANUP_EVERY,
            act=lambda: rooms.registry.mirror_repair.compare(utc_now()),
            ends_within=timedelta(seconds=1),  # the first comparison opens MLflow, which takes seconds
        ),
        BackgroundJob(name="cleanup", every=_CLEANUP_EVERY, act=lambda: _clean_up(live, settings)),
    )


def _clean_up(live: LiveRooms, settings: HubSettings) -> None:
    now, registry = utc_now(), live.rooms.registry
    registry.versions.sweep_pending()
    live.rooms.healing.settle(live.workflows, now)
    registry.performance.prune_reports(now - settings.keep_reports)
    live.rooms.healing.looks.prune(now - settings.keep_looks)
    for model in registry.versions.models():
        registry.lifecycle.release_kept(model, now)


@contextmanager
def _listening(settings: HubSettings) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"The hub cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
            remedy="Stop the program that listens there, or choose another port with --port (mendel up: --hub-port).",
        ) from error
    with listener:
        yield listener


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Stop *server* on SIGTERM and SIGINT; uvicorn raises the signal again after it has stopped."""

    def on_signal(_: int, __: FrameType | None) -> None:
        _stop(server)

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
