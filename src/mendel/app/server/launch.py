"""`mendel serve`: one server, wired."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from uuid import uuid4

import structlog

from mendel.adapters.processes.child_processes import Command, worker_environment
from mendel.adapters.processes.process_logs import write_log
from mendel.adapters.processes.server_settings import ServeSettings, worker_count
from mendel.adapters.processes.supervisor import Given, Programs, supervise
from mendel.app.server.child_process import micros, utc_now
from mendel.app.server.worker import fronting, hosted_project
from mendel.transports.rest import ROUTES, RestPolicy

__all__ = ["ServeSettings", "serve"]
_log = structlog.get_logger("mendel.serve")


def serve(settings: ServeSettings) -> int:
    """
    Run a server in this process and its children until SIGTERM or SIGINT; gives the exit code. Main thread only.

    Raises:
        ProjectNotFound, InvalidProject: The project cannot be hosted.
        DirectoryInUse: Another server runs on the directory.
        PortInUse: Names the port.
        InvalidSettings: The project puts its metrics where something else is told.
    """
    write_log(settings.style)
    _check_project(settings)
    cores = os.cpu_count() or 1
    environment = worker_environment(os.environ, workers=worker_count(settings.serving, cores), cores=cores)
    programs = Programs(
        worker=Command(arguments=(sys.executable, "-m", "mendel.app.server.worker"), environment=environment),
        front=Command(arguments=(sys.executable, "-m", "mendel.app.server.zmq_proxy"), environment=environment),
    )
    given = Given(
        clock=utc_now,
        micros=micros,
        new_id=lambda: uuid4().hex[:12],
        rng=random.Random(),  # noqa: S311 - spreads retries, no secrets
        cores=cores,
    )
    return asyncio.run(supervise(settings, programs, given))


def _check_project(settings: ServeSettings) -> None:
    """Refuse here, once, what every worker would stumble over; say what is not done as it is written."""
    project = hosted_project(None if settings.project is None else str(settings.project), settings.classifier)
    if project is None:
        return
    policy = RestPolicy.of(fronting(project, settings.classifier))
    policy.routes(ROUTES)
    if policy.cors.allow_credentials and "*" in policy.cors.allow_origins:
        _log.warning(
            "cors_without_credentials", reason="they are never allowed to every origin", remedy="Name origins."
        )
