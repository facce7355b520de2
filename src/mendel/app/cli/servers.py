"""Commands that run for long: up, hub, serve."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mendel.app.cli.options import ClassifierName, Config, Directory, ProjectPath, settings_of
from mendel.app.cli.output import say

Parent = Annotated[int | None, typer.Option("--parent", hidden=True, help="End when this process ends.")]
Ports = Annotated[
    list[int] | None, typer.Option("--port", help="REST port; may be given twice.", show_default="8008 and 8000")
]
Host = Annotated[str | None, typer.Option("--host", help="Listen on this address.", show_default="127.0.0.1")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Worker processes; 0 is one per core.", show_default="1")
]


class LogLevel(StrEnum):
    """How much a server writes into its log."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


def add_to(app: typer.Typer) -> None:
    """Add them."""
    for command in (up, hub, serve):
        app.command()(command)


def up(
    *,
    path: ProjectPath = None,
    host: Host = None,
    port: Ports = None,
    workers: Workers = None,
    hub_port: Annotated[int | None, typer.Option(help="The hub's port.", show_default="8080")] = None,
    directory: Directory = None,
    config: Config = None,
) -> None:
    """Run hub and server on this machine, in one data directory."""
    import os  # noqa: PLC0415 - help must be quick

    from mendel.app.up import Pair  # noqa: PLC0415

    flags = _serving_flags(host, port, workers) | {"hub__port": hub_port}
    settings = settings_of(directory, config, **flags)
    environment = dict(os.environ) | _as_environment({"directory": directory, **flags}, config)
    raise SystemExit(Pair(settings, environment, str(path) if path else None, say).run())


def hub(
    *,
    port: Annotated[int | None, typer.Option("--port", help="Listen there.", show_default="8080")] = None,
    host: Host = None,
    directory: Directory = None,
    config: Config = None,
    parent: Parent = None,
) -> None:
    """Run the control plane."""
    _follow(parent)
    from mendel.app.hub.run import run_hub  # noqa: PLC0415 - help must be quick

    run_hub(settings_of(directory, config, hub__port=port, hub__host=host))


def serve(
    *,
    path: ProjectPath = None,
    classifier: ClassifierName = None,
    host: Host = None,
    port: Ports = None,
    workers: Workers = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level", help="Write nothing that is less than this.", show_default="INFO", case_sensitive=False
        ),
    ] = None,
    artifact: Annotated[
        Path | None,
        typer.Option("--artifact", metavar="DIR", help="Without a hub: serve the registered version in DIR."),
    ] = None,
    url: Annotated[str | None, typer.Option("--hub", metavar="URL", help="The hub.", envvar="MENDEL_URL")] = None,
    directory: Directory = None,
    config: Config = None,
    parent: Parent = None,
) -> None:
    """
    Run the data plane: answer requests over REST, gRPC and ZMQ.

    With a hub, what it says; without one, the project itself, on the host and port of its file.
    """
    _follow(parent)
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.server.serve_options import Wish, serve_with  # noqa: PLC0415 - help must be quick
    from mendel.app.settings import explain_settings  # noqa: PLC0415

    flags = _serving_flags(host, port, workers)
    given = {name.replace("__", "."): value for name, value in flags.items()}
    origins = explain_settings(environment=system_environment(), file=config, flags=given)
    wish = Wish(
        hub=url,
        path=path,
        classifier=classifier,
        artifact=artifact,
        said=frozenset(origin.key for origin in origins if origin.source != "default"),
        log_level=None if log_level is None else log_level.value,
        paired=parent is not None,
    )
    raise SystemExit(serve_with(settings_of(directory, config, **flags), wish))


def _serving_flags(host: str | None, port: list[int] | None, workers: int | None) -> dict[str, Any]:
    return {"serving__host": host, "serving__rest_ports": port or None, "serving__workers": workers}


def _as_environment(flags: dict[str, Any], config: Path | None) -> dict[str, str]:
    told = {f"MENDEL_{name.upper()}": _text(value) for name, value in flags.items() if value is not None}
    return told | ({"MENDEL_CONFIG": str(config)} if config else {})


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _follow(parent: int | None) -> None:
    if parent is not None and sys.platform == "linux":
        from mendel.adapters.processes.child_processes import die_with_parent  # noqa: PLC0415 - help must be quick

        die_with_parent(parent)
