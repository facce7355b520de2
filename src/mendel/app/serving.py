"""Settings to one server: what `mendel serve` runs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from mendel.adapters.processes.settings import ServeSettings
from mendel.app.directory import DataDirectory
from mendel.app.serve import serve
from mendel.app.settings import Settings, system_environment
from mendel.errors import HubUnavailable, ProjectNotFound
from mendel.predictions import SpoolPolicy
from mendel.projects import load_project
from mendel.serving import ServingPolicy

_OPTIONAL_PORTS = (8000,)


def serve_with(settings: Settings, *, hub: str | None, path: Path | None, classifier: str | None) -> int:
    """
    Serve until SIGTERM or SIGINT; the exit code.

    Args:
        hub: Its URL; None: the one that runs on the data directory.
        path: The project whose classifiers this server hosts; None: the one around the working directory, if any.

    Raises:
        HubUnavailable: No hub is named, none runs on the directory, and none ever did.
        PortInUse: Somebody listens on a port.
    """
    data = DataDirectory(settings.root)
    running = data.hub()
    url = hub or settings.hub.url or (running.url if running else None)
    if url is None:
        raise HubUnavailable(
            f"No hub runs on {data.root}.",
            remedy="Start one with: mendel hub (or both: mendel up), or name it: --hub URL.",
        )
    return serve(server_settings(settings, data, url=url, project=project_around(path), classifier=classifier))


def server_settings(
    settings: Settings, data: DataDirectory, *, url: str, project: Path | None, classifier: str | None
) -> ServeSettings:
    """What the server's processes are told."""
    serving = settings.serving
    named = {one.name: getattr(serving, one.name) for one in fields(ServingPolicy) if hasattr(serving, one.name)}
    return ServeSettings(
        directory=data.server,
        hub=url,
        key=system_environment().get("MENDEL_KEY") or data.secret(),
        host=serving.host,
        rest_ports=serving.rest_ports,
        optional_ports=_OPTIONAL_PORTS if len(serving.rest_ports) > 1 else (),
        grpc_port=serving.grpc_port,
        zmq_port=serving.zmq_port,
        serving=ServingPolicy(
            **named, breaker=settings.resilience.circuit_breaker, bulkhead=settings.resilience.bulkhead
        ),
        spool=SpoolPolicy(**{one.name: getattr(settings.spool, one.name) for one in fields(SpoolPolicy)}),
        spool_directory=Path(settings.spool.directory) if settings.spool.directory else None,
        report_every=serving.report_every,
        project=project,
        classifier=classifier,
    )


def project_around(path: Path | None) -> Path | None:
    """
    Where the project stands that is named, or the one around the working directory, if any.

    Raises:
        ProjectNotFound: One is named, and there is none.
        InvalidProject: It cannot be read.
    """
    try:
        return load_project(path or Path.cwd()).root
    except ProjectNotFound:
        if path is not None:
            raise
        return None
