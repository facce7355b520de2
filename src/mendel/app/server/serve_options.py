"""Settings to one server: what `mendel serve` runs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import structlog

from mendel.adapters.processes.process_logs import Level, LogStyle, write_log
from mendel.adapters.processes.server_settings import ServeSettings
from mendel.app.clock import utc_now
from mendel.app.directory import DataDirectory
from mendel.app.environment import system_environment
from mendel.app.server.identity import HostedRelease, identify
from mendel.app.server.launch import door_settings, serve
from mendel.app.server.standalone import (
    StandaloneFiles,
    make_directory,
    standalone_keys,
    write_project_files,
    write_version_files,
)
from mendel.app.server.worker import server_classifier
from mendel.app.settings import Settings
from mendel.errors import HubUnavailable, ProjectNotFound
from mendel.predictions import SpoolPolicy
from mendel.projects import Project, chosen_classifier, load_project
from mendel.serving import ServingPolicy, read_version_directory
from mendel.transports.rest.door import REST

_log = structlog.get_logger("mendel.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """
    The arguments of `mendel serve`.

    Attributes:
        hub: Its URL; None: the one of the settings, or that runs on the data directory, if any.
        path: The project whose classifiers this server hosts; None: the one around the working directory, if any.
        artifact: The directory of a registered version, served where there is no hub.
        chosen: The keys of the settings that a person set; they win over the project's file.
        log_level: Above the file's.
        beside_hub: `mendel up` started it beside a hub: without that hub it serves nothing.
    """

    hub: str | None = None
    path: Path | None = None
    classifier: str | None = None
    artifact: Path | None = None
    chosen: frozenset[str] = frozenset()
    log_level: Level | None = None
    beside_hub: bool = False


def serve_with(settings: Settings, options: ServeOptions) -> int:
    """
    Serve until SIGTERM or SIGINT; the exit code.

    With a hub the server serves what the hub desires; without one the project's own classifier, or the version in
    ``options.artifact``.

    Raises:
        HubUnavailable: There is neither a hub nor anything to serve without one.
        ProjectNotFound: The path is not a project, or no classifier of several is chosen.
        PortInUse: Another program listens on a port.
    """
    data = DataDirectory(settings.root)
    running = data.hub()
    named = options.hub or settings.hub.url
    url = named or (running.url if running else None)
    project = find_project(options.path)
    write_log(log_style(project, options))
    if url is not None:
        if options.artifact is not None:
            _log.info("artifact_ignored", artifact=str(options.artifact), reason=f"the hub at {url} decides")
        hosted = identify(project, options.classifier, system_environment())
        serve_settings = server_settings(settings, data, options, project=project, hosted=hosted, source=url)
        return serve(with_project_settings(serve_settings, project, options, embedded=not named))
    if options.beside_hub or (project is None and options.artifact is None):
        instead = "" if options.beside_hub else ", and there is no project here to serve without one"
        raise HubUnavailable(
            f"No hub runs on {data.root}{instead}.",
            remedy="Start a hub with: mendel hub (or both: mendel up), name one: --hub URL, or give --path.",
        )
    options = replace(options, classifier=_standalone_classifier(options, project))
    data.create()
    make_directory(data.server)
    hosted = identify(project, options.classifier, system_environment())
    source = _write_files(data, options, project, hosted)
    serve_settings = server_settings(settings, data, options, project=project, hosted=hosted, source=source)
    return serve(with_project_settings(serve_settings, project, options))


def server_settings(
    settings: Settings,
    data: DataDirectory,
    options: ServeOptions,
    *,
    project: Project | None,
    hosted: HostedRelease,
    source: str | StandaloneFiles,
) -> ServeSettings:
    """
    The settings of the server's processes before the project's file is applied.

    Args:
        source: The hub's address, or the files of a server without a hub.
    """
    serving = settings.serving
    named = {one.name: getattr(serving, one.name) for one in fields(ServingPolicy) if hasattr(serving, one.name)}
    files = source if isinstance(source, StandaloneFiles) else None
    return ServeSettings(
        directory=data.server,
        hub=None if isinstance(source, StandaloneFiles) else source,
        desired_file=None if files is None else files.desired_file,
        artifacts=None if files is None else files.artifacts,
        logged=files is None or files.logged,
        key=system_environment().get("MENDEL_KEY") or data.secret(),
        host=serving.host,
        doors=door_settings(serving.ports, chosen=options.chosen),
        serving=ServingPolicy(
            **named, breaker=settings.resilience.circuit_breaker, bulkhead=settings.resilience.bulkhead
        ),
        spool=SpoolPolicy(**{one.name: getattr(settings.spool, one.name) for one in fields(SpoolPolicy)}),
        spool_directory=Path(settings.spool.directory) if settings.spool.directory else None,
        report_every=serving.report_every,
        project=None if project is None else project.root,
        classifier=options.classifier,
        style=log_style(project, options),
        identity=hosted.identity,
    )


def with_project_settings(
    serve_settings: ServeSettings, project: Project | None, options: ServeOptions, *, embedded: bool = False
) -> ServeSettings:
    """
    *serve_settings* with the ``server`` section of the project's file, where a person set nothing else.

    Beside an *embedded* hub the server stays on this machine's own interface, and adds the project's port to its own.
    """
    if project is None:
        return serve_settings
    classifier = server_classifier(project, options.classifier)
    server, observability = classifier.server, classifier.observability
    if f"serving.{REST.ports.key}" not in options.chosen:
        rest = next(door for door in serve_settings.doors if door.name == REST.name)
        ports = tuple(dict.fromkeys((rest.ports[0], server.port))) if embedded else (server.port,)
        serve_settings = serve_settings.with_ports(REST.name, ports, dispensable=ports[1:])
    workers = serve_settings.serving.workers if "serving.workers" in options.chosen else server.workers
    return replace(
        serve_settings,
        host=serve_settings.host if embedded or "serving.host" in options.chosen else server.host,
        serving=replace(
            serve_settings.serving,
            workers=workers,
            correlation_ids=observability.correlation_ids,
            log_payloads=observability.log_payloads,
        ),
    )


def log_style(project: Project | None, options: ServeOptions) -> LogStyle:
    """How the server writes its log: as the project says, or lines for people."""
    if project is None:
        return LogStyle(level=options.log_level or "INFO")
    classifier = server_classifier(project, options.classifier)
    logger = classifier.server.logger
    return LogStyle(
        level=options.log_level or classifier.server.log_level,
        structured=logger.structured and classifier.observability.structured_logging,
        timestamp=logger.timestamp,
        tasks=logger.show_tasks,
        format=logger.format,
    )


def find_project(path: Path | None) -> Project | None:
    """
    The project at *path*, or the one around the working directory, if any.

    Raises:
        ProjectNotFound: *path* is given and is not a project.
        InvalidProject: It cannot be read.
    """
    try:
        return load_project(path or Path.cwd())
    except ProjectNotFound:
        if path is not None:
            raise
        return None


def _standalone_classifier(options: ServeOptions, project: Project | None) -> str | None:
    """The classifier that a server without a hub serves."""
    if project is None:
        return None
    if options.artifact is None or options.classifier is not None:
        return chosen_classifier(project, options.classifier, default=True).name
    model = read_version_directory(options.artifact).model
    return str(model) if model in project.names else None


def _write_files(
    data: DataDirectory, options: ServeOptions, project: Project | None, hosted: HostedRelease
) -> StandaloneFiles:
    keys = standalone_keys(data.server, system_environment().get("MENDEL_KEY"))
    place = data.server / "standalone"
    place.mkdir(exist_ok=True)
    if options.artifact is not None or project is None:
        return write_version_files(place, options.artifact or Path(), keys)
    return write_project_files(place, project.classifier(options.classifier), hosted, keys, utc_now())
