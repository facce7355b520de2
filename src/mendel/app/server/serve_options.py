"""Settings to one server: what `mendel serve` runs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import structlog

from mendel.adapters.processes.process_logs import Level, LogStyle, write_log
from mendel.adapters.processes.server_settings import ServeSettings
from mendel.app.directory import DataDirectory
from mendel.app.environment import system_environment
from mendel.app.server.child_process import utc_now
from mendel.app.server.identity import Hosted, identify
from mendel.app.server.launch import serve
from mendel.app.server.standalone import Alone, keys_alone, lay_out_project, lay_out_version, make_directory
from mendel.app.server.worker import fronting
from mendel.app.settings import Settings
from mendel.errors import HubUnavailable, ProjectNotFound
from mendel.predictions import SpoolPolicy
from mendel.projects import Project, chosen_classifier, load_project
from mendel.serving import ServingPolicy, read_version_directory

_log = structlog.get_logger("mendel.serve")
_OPTIONAL_PORTS = (8000,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """
    What `mendel serve` was asked.

    Attributes:
        hub: Its URL; None: the one of the settings, or that runs on the data directory, if any.
        path: The project whose classifiers this server hosts; None: the one around the working directory, if any.
        artifact: The directory of a registered version, served where there is no hub.
        said: The settings that somebody chose, by key: they stand above what the project's file says.
        log_level: Above the file's.
        paired: It was started beside a hub, by `mendel up`: without that hub it serves nothing.
    """

    hub: str | None = None
    path: Path | None = None
    classifier: str | None = None
    artifact: Path | None = None
    said: frozenset[str] = frozenset()
    log_level: Level | None = None
    paired: bool = False


def serve_with(settings: Settings, wish: Wish) -> int:
    """
    Serve until SIGTERM or SIGINT; the exit code.

    With a hub, what it desires; without one, the project itself, or the version of ``wish.artifact``.

    Raises:
        HubUnavailable: There is neither a hub nor anything to serve without one.
        ProjectNotFound: A project is named and is none, or has several classifiers and none is meant.
        PortInUse: Somebody listens on a port.
    """
    data = DataDirectory(settings.root)
    running = data.hub()
    named = wish.hub or settings.hub.url
    url = named or (running.url if running else None)
    project = project_around(wish.path)
    write_log(style_of(project, wish))
    if url is not None:
        if wish.artifact is not None:
            _log.info("artifact_left_alone", artifact=str(wish.artifact), reason=f"the hub at {url} is asked")
        hosted = identify(project, wish.classifier, system_environment())
        told = server_settings(settings, data, wish, project=project, hosted=hosted, source=url)
        return serve(told if project is None else as_project_says(told, project, wish, embedded=not named))
    if wish.paired or (project is None and wish.artifact is None):
        instead = "" if wish.paired else ", and there is no project here to serve without one"
        raise HubUnavailable(
            f"No hub runs on {data.root}{instead}.",
            remedy="Start a hub with: mendel hub (or both: mendel up), name one: --hub URL, or give --path.",
        )
    wish = replace(wish, classifier=_meant(wish, project))
    data.create()
    make_directory(data.server)
    hosted = identify(project, wish.classifier, system_environment())
    source = _lay_out(data, wish, project, hosted)
    told = server_settings(settings, data, wish, project=project, hosted=hosted, source=source)
    return serve(told if project is None else as_project_says(told, project, wish))


def server_settings(
    settings: Settings,
    data: DataDirectory,
    wish: Wish,
    *,
    project: Project | None,
    hosted: Hosted,
    source: str | Alone,
) -> ServeSettings:
    """
    What the server's processes are told, before the project has its say; *source* is a hub's address, or what stands
    in its place.
    """
    serving = settings.serving
    named = {one.name: getattr(serving, one.name) for one in fields(ServingPolicy) if hasattr(serving, one.name)}
    alone = source if isinstance(source, Alone) else None
    return ServeSettings(
        directory=data.server,
        hub=None if isinstance(source, Alone) else source,
        desired_file=None if alone is None else alone.desired_file,
        artifacts=None if alone is None else alone.artifacts,
        logged=alone is None or alone.logged,
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
        project=None if project is None else project.root,
        classifier=wish.classifier,
        style=style_of(project, wish),
        identity=hosted.identity,
    )


def as_project_says(told: ServeSettings, project: Project, wish: Wish, *, embedded: bool = False) -> ServeSettings:
    """
    *told* with what the project's file says, where nobody chose otherwise.

    Beside an *embedded* hub the server stays on this machine's own interface, and adds the project's port to its own.
    """
    classifier = fronting(project, wish.classifier)
    server, observability = classifier.server, classifier.observability
    ports, optional = told.rest_ports, told.optional_ports
    if "serving.rest_ports" not in wish.said:
        ports = tuple(dict.fromkeys((ports[0], server.port))) if embedded else (server.port,)
        optional = ports[1:]
    workers = told.serving.workers if "serving.workers" in wish.said else server.workers
    return replace(
        told,
        host=told.host if embedded or "serving.host" in wish.said else server.host,
        rest_ports=ports,
        optional_ports=optional,
        serving=replace(
            told.serving,
            workers=workers,
            correlation_ids=observability.correlation_ids,
            log_payloads=observability.log_payloads,
        ),
    )


def style_of(project: Project | None, wish: Wish) -> LogStyle:
    """How the server writes its log: as the project says, or lines for people."""
    if project is None:
        return LogStyle(level=wish.log_level or "INFO")
    classifier = fronting(project, wish.classifier)
    logger = classifier.server.logger
    return LogStyle(
        level=wish.log_level or classifier.server.log_level,
        structured=logger.structured and classifier.observability.structured_logging,
        timestamp=logger.timestamp,
        tasks=logger.show_tasks,
        format=logger.format,
    )


def project_around(path: Path | None) -> Project | None:
    """
    The project that is named, or the one around the working directory, if any.

    Raises:
        ProjectNotFound: One is named, and there is none.
        InvalidProject: It cannot be read.
    """
    try:
        return load_project(path or Path.cwd())
    except ProjectNotFound:
        if path is not None:
            raise
        return None


def _meant(wish: Wish, project: Project | None) -> str | None:
    """The classifier that a server without a hub is for."""
    if project is None:
        return None
    if wish.artifact is None or wish.classifier is not None:
        return chosen_classifier(project, wish.classifier, default=True).name
    model = read_version_directory(wish.artifact).model
    return str(model) if model in project.names else None


def _lay_out(data: DataDirectory, wish: Wish, project: Project | None, hosted: Hosted) -> Alone:
    keys = keys_alone(data.server, system_environment().get("MENDEL_KEY"))
    place = data.server / "alone"
    place.mkdir(exist_ok=True)
    if wish.artifact is not None or project is None:
        return lay_out_version(place, wish.artifact or Path(), keys)
    return lay_out_project(place, project.classifier(wish.classifier), hosted, keys, utc_now())
