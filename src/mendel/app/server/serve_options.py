"""Run `mendel serve`: combine settings, command-line options and project into the settings of a server."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import structlog

from mendel.adapters.processes.process_logs import Level, LogStyle, write_log
from mendel.adapters.processes.server_settings import ServeSettings
from mendel.app.clock import utc_now
from mendel.app.directory import DataDirectory
from mendel.app.environment import system_environment
from mendel.app.server.identity import identify
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
from mendel.serving import ServerIdentity, read_version_directory
from mendel.transports.rest.door import REST

_log = structlog.get_logger("mendel.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """
    The arguments of `mendel serve`.

    Attributes:
        hub: The URL of the hub; None uses the setting ``hub.url``, else the running hub of the data directory, if any.
        path: The directory of the project that the server hosts; None uses the project that contains the working
            directory, if any.
        classifier: The classifier of the project; None serves the default classifier.
        artifact: The directory of a registered version that a server without a hub serves.
        fixed: True when the server serves ``artifact`` even if a hub is named or runs.
        chosen: The keys of the settings that a person set; they take precedence over the project's mlserver.yaml.
        log_level: Takes precedence over the log level in mlserver.yaml; None uses that of mlserver.yaml.
        beside_hub: True when `mendel up` starts the server together with a hub; without that hub, the server does not
            start.
    """

    hub: str | None = None
    path: Path | None = None
    classifier: str | None = None
    artifact: Path | None = None
    fixed: bool = False
    chosen: frozenset[str] = frozenset()
    log_level: Level | None = None
    beside_hub: bool = False


def serve_with(settings: Settings, options: ServeOptions) -> int:
    """
    Run a server until SIGTERM or SIGINT, and give the exit code.

    With a hub, the server serves the models that the hub deploys. Without a hub, the server serves the classifier of
    the project, or the model version in ``options.artifact``.

    Raises:
        HubUnavailable: No hub runs, and neither a project nor ``options.artifact`` is given.
        ProjectNotFound: The path is not a project, or the project has several classifiers and no default.
        PortInUse: Another program listens on a port.
    """
    data = DataDirectory(settings.root)
    running = data.hub()
    named = options.hub or settings.hub.url
    url = None if options.fixed else named or (running.url if running else None)
    project = find_project(options.path)
    write_log(log_style(settings, project, options))
    if url is not None:
        if options.artifact is not None:
            reason = f"the hub at {url} decides which versions this server serves"
            _log.info("artifact_ignored", artifact=str(options.artifact), reason=reason)
        identity = identify(project, options.classifier, system_environment())
        serve_settings = server_settings(settings, data, options, project=project, identity=identity, source=url)
        return serve(with_project_settings(serve_settings, project, options, embedded=not named))
    if options.beside_hub or (project is None and options.artifact is None):
        instead = "" if options.beside_hub else ", and the working directory is not in a project to serve without a hub"
        raise HubUnavailable(
            f"No hub runs with the data directory {data.root}{instead}.",
            remedy="Start a hub with: mendel hub (hub and server together: mendel up), or give --hub URL or --path.",
        )
    options = replace(options, classifier=_standalone_classifier(options, project))
    data.create()
    make_directory(data.server)
    identity = identify(project, options.classifier, system_environment())
    source = _write_files(data, options, project, identity.release)
    serve_settings = server_settings(settings, data, options, project=project, identity=identity, source=source)
    return serve(with_project_settings(serve_settings, project, options))


def server_settings(
    settings: Settings,
    data: DataDirectory,
    options: ServeOptions,
    *,
    project: Project | None,
    identity: ServerIdentity,
    source: str | StandaloneFiles,
) -> ServeSettings:
    """
    Build the settings of the server's processes without the ``server`` section of mlserver.yaml.

    Args:
        identity: The project, code and image of the server.
        source: The URL of the hub, or the files for a server without a hub.
    """
    serving = settings.serving
    in_image = identity.image is not None and "serving.environments" not in options.chosen
    changes = {"environments": "fixed"} if in_image else {}  # an image brings its environments
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
        serving=settings.serving_policy(**changes),
        spool=SpoolPolicy(**{one.name: getattr(settings.spool, one.name) for one in fields(SpoolPolicy)}),
        spool_directory=Path(settings.spool.directory) if settings.spool.directory else None,
        report_every=serving.report_every,
        project=None if project is None else project.root,
        classifier=options.classifier,
        style=log_style(settings, project, options),
        identity=identity,
    )


def with_project_settings(
    serve_settings: ServeSettings, project: Project | None, options: ServeOptions, *, embedded: bool = False
) -> ServeSettings:
    """
    Apply the ``server`` section of mlserver.yaml to *serve_settings*, except for settings that a person set.

    Args:
        embedded: True when the hub runs on the same data directory: the host setting then stays unchanged, and the
            project's port is added to the ports of REST instead of replacing them.
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


def log_style(settings: Settings, project: Project | None, options: ServeOptions) -> LogStyle:
    """
    Give the format and level of the server's log.

    Lines are text on a terminal, else JSON, unless the setting ``log_format`` or the project says otherwise; the
    setting takes precedence.
    """
    structured = settings.json_log(terminal=sys.stderr.isatty())
    if project is None:
        return LogStyle(level=options.log_level or "INFO", structured=structured)
    classifier = server_classifier(project, options.classifier)
    logger = classifier.server.logger
    told = [one for one in (logger.structured, classifier.observability.structured_logging) if one is not None]
    if told and "log_format" not in options.chosen:
        structured = all(told)
    return LogStyle(
        level=options.log_level or classifier.server.log_level,
        structured=structured,
        timestamp=logger.timestamp,
        tasks=logger.show_tasks,
        format=logger.format,
    )


def find_project(path: Path | None) -> Project | None:
    """
    Load the project at *path*. Without *path*, load the project that contains the working directory, if any.

    Raises:
        ProjectNotFound: *path* is not None and not a project.
        InvalidProject: The project's mlserver.yaml is invalid.
    """
    try:
        return load_project(path or Path.cwd())
    except ProjectNotFound:
        if path is not None:
            raise
        return None


def _standalone_classifier(options: ServeOptions, project: Project | None) -> str | None:
    """Give the classifier that a server without a hub serves; None when it serves an artefact of another project."""
    if project is None:
        return None
    if options.artifact is None or options.classifier is not None:
        return chosen_classifier(project, options.classifier, default=True).name
    model = read_version_directory(options.artifact).model
    return str(model) if model in project.names else None


def _write_files(
    data: DataDirectory, options: ServeOptions, project: Project | None, release: str | None
) -> StandaloneFiles:
    keys = standalone_keys(data.server, system_environment().get("MENDEL_KEY"))
    place = data.server / "standalone"
    place.mkdir(exist_ok=True)
    if options.artifact is not None or project is None:
        return write_version_files(place, options.artifact or Path(), keys)
    return write_project_files(place, project.classifier(options.classifier), release, keys, utc_now())
