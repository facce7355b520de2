"""`mendel serve`: one server, wired."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Collection, Mapping
from uuid import uuid4

from mendel.adapters.processes.child_processes import Command, worker_environment
from mendel.adapters.processes.listening_sockets import DoorSettings
from mendel.adapters.processes.process_logs import write_log
from mendel.adapters.processes.server_settings import ServeSettings, worker_count
from mendel.adapters.processes.supervisor import ChildCommands, SystemContext, supervise
from mendel.app.clock import utc_now
from mendel.app.server.child_process import micros
from mendel.app.server.worker import hosted_project, server_classifier
from mendel.transports.door_table import DOORS, door_named

__all__ = ["ServeSettings", "door_settings", "serve"]


def serve(settings: ServeSettings) -> int:
    """
    Run a server in this process and its children until SIGTERM or SIGINT; gives the exit code. Main thread only.

    Raises:
        ProjectNotFound, InvalidProject: The project cannot be hosted.
        DirectoryInUse: Another server runs on the directory.
        PortInUse: Names the port.
        InvalidSettings: A door cannot do what the project asks of it.
    """
    write_log(settings.style)
    _check_project(settings)
    cores = os.cpu_count() or 1
    environment = worker_environment(os.environ, workers=worker_count(settings.serving, cores), cores=cores)
    commands = ChildCommands(
        worker=Command(arguments=(sys.executable, "-m", "mendel.app.server.worker"), environment=environment),
        proxy=Command(arguments=(sys.executable, "-m", "mendel.app.server.door_proxy"), environment=environment),
    )
    system = SystemContext(
        clock=utc_now,
        micros=micros,
        new_id=lambda: uuid4().hex[:12],
        rng=random.Random(),  # noqa: S311 - spreads retries, no secrets
        cores=cores,
    )
    return asyncio.run(supervise(settings, commands, system))


def door_settings(ports: Mapping[str, tuple[int, ...]], *, chosen: Collection[str] = ()) -> tuple[DoorSettings, ...]:
    """
    Every door of the table with its *ports*, by the door's name; a door that is not named is off.

    Args:
        chosen: The settings that a person set: none of their ports is dispensable.
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
    """Refuse here, once, what would make every worker fail to start or to open a door."""
    project = hosted_project(None if settings.project is None else str(settings.project), settings.classifier)
    if project is None:
        return
    classifier = server_classifier(project, settings.classifier)
    for door in settings.doors:
        if door.ports:
            door_named(door.name).check(classifier)
