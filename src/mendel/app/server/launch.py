"""Start a server: check the project, then run the supervisor with the commands for its child processes."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Collection, Mapping
from uuid import uuid4

import structlog

from mendel.adapters.processes.child_processes import Command, worker_environment
from mendel.adapters.processes.listening_sockets import DoorSettings
from mendel.adapters.processes.process_logs import write_log
from mendel.adapters.processes.server_settings import ServeSettings, worker_count
from mendel.adapters.processes.supervisor import ChildCommands, SystemContext, supervise
from mendel.app.clock import utc_now
from mendel.app.server.backend_table import server_environments
from mendel.app.server.child_process import micros
from mendel.app.server.worker import hosted_project, server_classifier
from mendel.transports.door import fast_obstacle
from mendel.transports.door_table import DOORS, door_named
from mendel.transports.tls import server_context
from mendel.transports.zmq.encryption import curve_keys

_log = structlog.get_logger("mendel.server")
__all__ = ["ServeSettings", "door_settings", "serve"]


def serve(settings: ServeSettings) -> int:
    """
    Run a server with its child processes until SIGTERM or SIGINT, and give the exit code. Call in the main thread.

    Raises:
        ProjectNotFound, InvalidProject: The project does not exist or cannot be read.
        DirectoryInUse: Another server runs with the same directory.
        PortInUse: Another program listens on a port; the message names the port.
        InvalidSettings: The project configures a protocol in an impossible way, or a file of TLS or a key of ZMQ cannot
            be used.
    """
    write_log(settings.style)
    _check_project(settings)
    server_context(settings.serving.tls, ())
    if (keys := curve_keys(settings.serving.zmq_key, settings.serving.zmq_clients)) is not None:
        keys.check()
    _warn_of_standard_doors(settings)
    cores = os.cpu_count() or 1
    environment = worker_environment(os.environ, workers=worker_count(settings.serving, cores), cores=cores)
    commands = ChildCommands(
        worker=Command(arguments=(sys.executable, "-P", "-m", "mendel.app.server.worker"), environment=environment),
        proxy=Command(arguments=(sys.executable, "-P", "-m", "mendel.app.server.door_proxy"), environment=environment),
        models=worker_environment(os.environ, workers=1, cores=cores),  # the workers share them
    )
    system = SystemContext(
        clock=utc_now,
        micros=micros,
        new_id=lambda: uuid4().hex[:12],
        rng=random.Random(),  # noqa: S311 - spreads retries, no secrets
        cores=cores,
        environments=server_environments(settings.serving),
    )
    return asyncio.run(supervise(settings, commands, system))


def door_settings(ports: Mapping[str, tuple[int, ...]], *, chosen: Collection[str] = ()) -> tuple[DoorSettings, ...]:
    """
    Give the settings of every protocol in ``DOORS``.

    Args:
        ports: The ports by the name of the protocol; a protocol without ports is off.
        chosen: The settings that a person set; a server does not start if a port of such a setting is taken, whereas a
            taken default port may be skipped.
    """
    return tuple(
        DoorSettings(
            name=door.name,
            title=door.title,
            setting=f"serving.{door.ports.key}",
            ports=ports.get(door.name, ()),
            dispensable=() if f"serving.{door.ports.key}" in chosen else door.ports.dispensable,
            has_proxy=door.proxy is not None,
            health_path=door.health_path,
        )
        for door in DOORS
    )


def _check_project(settings: ServeSettings) -> None:
    """Check the project once in the supervisor, because an invalid project would make every worker fail to start."""
    project = hosted_project(None if settings.project is None else str(settings.project), settings.classifier)
    if project is None:
        return
    classifier = server_classifier(project, settings.classifier)
    for door in settings.doors:
        if door.ports:
            door_named(door.name).check(classifier)


def _warn_of_standard_doors(settings: ServeSettings) -> None:
    """Write to the log, once for all workers, why the doors are standard although the settings allow fast ones."""
    obstacle = None if settings.serving.doors == "standard" else fast_obstacle()
    if obstacle is not None:
        _log.warning("doors_standard", reason=obstacle, remedy="Set serving.doors to standard.")
