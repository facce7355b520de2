"""Commands that start: the demo, a first project, the hub and the server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, cast

import click

from mendel.app.cli.options import ClassifierName, Config, Directory, DryRun, Force, ProjectPath, ToolUrl, settings_of
from mendel.app.cli.output import Result, json_asked, progress, say_now, warn
from mendel.app.cli.parameters import argument, option

if TYPE_CHECKING:
    from mendel.adapters.processes.process_logs import Level
    from mendel.app.settings import Settings

Parent = Annotated[int | None, option("--parent", hidden=True, help="End when this process ends.")]
Ports = Annotated[
    list[int] | None,
    option(
        "--port",
        metavar="PORT",
        help="The REST port; may be repeated.",
        show_default="8008 and server.port of mlserver.yaml (8000)",
    ),
]
ServePorts = Annotated[
    list[int] | None,
    option(
        "--port",
        metavar="PORT",
        help="The REST port; may be repeated.",
        show_default="server.port of mlserver.yaml (8000); beside the directory's hub also 8008",
    ),
]
GrpcPort = Annotated[
    str | None,
    option("--grpc-port", metavar="PORT", help="The gRPC port; 'off' closes gRPC.", show_default="7212"),
]
ZmqPort = Annotated[
    str | None, option("--zmq-port", metavar="PORT", help="The ZMQ port; 'off' closes ZMQ.", show_default="7211")
]
Host = Annotated[
    str | None, option("--host", metavar="ADDRESS", help="Listen on this address.", show_default="127.0.0.1")
]
ServeHost = Annotated[
    str | None,
    option(
        "--host",
        metavar="ADDRESS",
        help="Listen on this address.",
        show_default="server.host of mlserver.yaml (0.0.0.0); with the directory's hub or no project 127.0.0.1",
    ),
]
Workers = Annotated[
    int | None,
    option(
        "--workers",
        metavar="N",
        help="Number of worker processes; 0 means one per core.",
        show_default="server.workers of mlserver.yaml, else 1",
    ),
]


def demo(
    *,
    data: Annotated[
        Path | None,
        option(metavar="FILE", existing=True, help="Use the rows of this file instead of the digits data set."),
    ] = None,
    target: Annotated[str | None, option(metavar="COLUMN", help="The column of --data that holds the label.")] = None,
    keep: Annotated[bool, option("--keep", help="Leave hub and server running at the end.")] = False,
) -> None:
    """
    Show the whole loop on real data, in a minute or two.

    The demo releases a model, serves it, reacts to drift, rolls a bad version back, survives a killed hub and verifies
    the ledger.
    """
    if (data is None) != (target is None):
        raise click.BadParameter("give --data and --target together, or neither")
    say_now("Mendel: a model's life in a minute or two, with real processes and real rows.")
    from mendel.app.demo.narrator import Narrator  # noqa: PLC0415 - help must be quick, and the first line too
    from mendel.app.demo.story import DemoOptions, play  # noqa: PLC0415

    play(DemoOptions(data=data, target=target, keep=keep), Narrator())


def init(
    *,
    classifier: Annotated[
        str | None, option(metavar="NAME", help="The name of the classifier.", show_default="the directory's name")
    ] = None,
    predictor_class: Annotated[str, option(metavar="CLASS", help="The class name of the predictor.")] = "Predictor",
    data: Annotated[
        Path | None,
        option(metavar="FILE", existing=True, help="Write a project that learns from this table, CSV or Parquet."),
    ] = None,
    target: Annotated[str | None, option(metavar="COLUMN", help="The column of --data that the model learns.")] = None,
    task: Annotated[
        str | None,
        option(
            choices=("classification", "regression"),
            help="How the target is learnt.",
            show_default="decided by the target's values",
        ),
    ] = None,
    ci: Annotated[
        str | None,
        option(choices=("github", "gitlab", "none"), help="The CI workflow to write.", show_default="github"),
    ] = None,
    tool_url: ToolUrl = None,
    path: Annotated[
        Path | None,
        option(metavar="DIR", help="The project's directory; created if missing.", show_default="this directory"),
    ] = None,
    force: Force = False,
) -> Result:
    """
    Write a new project.

    The files are the configuration, a predictor, its requirements, .gitignore and a CI workflow. Without --data, the
    project can be served at once, and its predictor waits for your model. With --data and --target, the project has a
    train function for the table: missing values, text and dates are prepared, and a version can be trained at once.
    """
    if (data is None) != (target is None):
        raise click.BadParameter("give --data and --target together, or neither")
    if task is not None and data is None:
        raise click.BadParameter("--task needs --data and --target")
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.app.project.scaffold import Place, workflow_file, write_new  # noqa: PLC0415 - help must be quick
    from mendel.projects import DeploymentSection, classifier_name, new_project_files  # noqa: PLC0415
    from mendel.values import ModelName  # noqa: PLC0415

    root, tool = (path or Path.cwd()).absolute(), this_tool()
    name = classifier_name(root.name) if classifier is None else ModelName(classifier)
    decided: tuple[str, ...] = ()
    if data is None or target is None:
        made = new_project_files(name, predictor_class)
    else:
        from mendel.app.project.scaffold import table_project  # noqa: PLC0415

        with progress(f"Reading {data}"):
            made, decided = table_project(name, predictor_class, data=data, target=target, task=task)
    files = [(root, file) for file in made]
    if ci is None and tool_url is None and tool.url is None:
        warn("hint: no CI workflow was written, because the git repository of Mendel is unknown; give --tool-url URL")
    elif ci != "none":
        place = Place.of(root)
        files.append((place.top, workflow_file(ci or "github", place, DeploymentSection(), tool, tool_url)))
    written = write_new(files, force=force)
    text = [*(f"✓ Wrote {file}" for file in written), *decided, "", "Next steps:", *_next_steps(root, name, data)]
    return Result({"classifier": name, "written": [str(file) for file in written], "decided": decided}, text)


def _next_steps(root: Path, name: str, data: Path | None) -> Iterator[str]:
    if data is None:
        yield f"  1. Put your model into {root / 'predictor.py'}"
        yield f"  2. Serve the project: mendel serve --path {quote(str(root))}"
        yield "  3. Pin the requirements, commit, and make a release: mendel lock; git commit; mendel tag minor"
        return
    yield f"  cd {quote(str(root))}"
    yield "  git init && git add . && git commit -m 'First version'    # unless the project is in a repository already"
    yield f"  mendel tag minor --classifier {name}"
    yield f"  mendel train --data {quote(str(data.absolute()))}"
    yield f"  mendel approve {name}@1 --policy --bias && mendel stage {name}@1 sandbox && mendel promote {name}@1"
    yield "  mendel up --wait"


def migrate_mlserver(
    *,
    path: Annotated[
        Path | None, option(metavar="DIR", help="The directory of classifier.yaml.", show_default="this directory")
    ] = None,
    dry_run: DryRun = False,
) -> Result:
    """
    Write mlserver.yaml from a legacy classifier.yaml.

    The old file stays, but Mendel no longer reads it.
    """
    from mendel.app.project.scaffold import write_new  # noqa: PLC0415 - help must be quick
    from mendel.errors import ProjectNotFound  # noqa: PLC0415
    from mendel.projects import FILE, LEGACY_FILE, NewFile, convert_older_format, load_project, read_document  # noqa: PLC0415

    given = (path or Path.cwd()).absolute()
    legacy = given if given.is_file() else given / LEGACY_FILE
    if not legacy.is_file():
        raise ProjectNotFound(
            f"The file {legacy} does not exist.", remedy="Name the directory of classifier.yaml with --path."
        )
    project = load_project(legacy)
    file = NewFile(path=FILE, text=convert_older_format(read_document(legacy), legacy.read_text(encoding="utf-8")))
    if not dry_run:
        write_new([(legacy.parent, file)], force=False)
    for hint in project.hints[1:]:
        warn(f"hint: {hint}")
    target = legacy.parent / FILE
    written = [f"✓ Wrote {target}", f"  {legacy.name} is no longer read; remove it with: git rm {legacy.name}"]
    return Result(
        {"file": str(target), "text": file.text, "written": not dry_run},
        [file.text.rstrip()] if dry_run else written,
    )


def up(
    *,
    path: ProjectPath = None,
    host: Host = None,
    port: Ports = None,
    workers: Workers = None,
    grpc_port: GrpcPort = None,
    zmq_port: ZmqPort = None,
    hub_port: Annotated[int | None, option(metavar="PORT", help="The hub's port.", show_default="8080")] = None,
    wait: Annotated[
        bool,
        option("--wait", help="Return when every deployed model serves; 'mendel down' stops hub and server."),
    ] = False,
    directory: Directory = None,
    config: Config = None,
) -> None:
    """
    Run hub and server together on this machine.

    The command says when each deployed model serves. With --wait, hub and server run in the background.
    """
    warn("Starting Mendel ...")
    import os  # noqa: PLC0415 - help must be quick

    from mendel.app.up import Pair, start_in_background  # noqa: PLC0415

    flags = _serving_flags(host, workers, {"rest": port, "grpc": grpc_port, "zmq": zmq_port}) | {"hub__port": hub_port}
    settings = settings_of(directory, config, **flags)
    environment = dict(os.environ) | _as_environment({"directory": directory, **flags}, config)
    project = str(path) if path else None
    if wait:
        raise SystemExit(start_in_background(settings, environment, project, say_now))
    raise SystemExit(Pair(settings, environment, project, say_now).run())


def down(*, directory: Directory = None, config: Config = None) -> Result:
    """
    Stop the hub and the server that 'mendel up' runs.

    A second stop while the first is under way ends both at once, with the requests in progress.
    """
    from mendel.app.up import stop_running  # noqa: PLC0415 - help must be quick

    pid = stop_running(settings_of(directory, config), None if json_asked() else sys.stderr)
    return Result({"stopped": pid}, ["Mendel is down."])


def run_hub(
    *,
    port: Annotated[
        int | None, option("--port", metavar="PORT", help="Listen on this port.", show_default="8080")
    ] = None,
    host: Host = None,
    directory: Directory = None,
    config: Config = None,
    parent: Parent = None,
) -> None:
    """Run the control plane: registry, monitor, healing, API."""
    _follow(parent)
    from mendel.app.hub.run import run_hub  # noqa: PLC0415 - help must be quick

    run_hub(settings_of(directory, config, hub__port=port, hub__host=host))


def serve(
    uri: Annotated[
        str | None,
        argument("[MODEL_URI]", "Serve this registered version alone, for example models:/credit@production."),
    ] = None,
    *,
    path: ProjectPath = None,
    classifier: ClassifierName = None,
    host: ServeHost = None,
    port: ServePorts = None,
    grpc_port: GrpcPort = None,
    zmq_port: ZmqPort = None,
    workers: Workers = None,
    log_level: Annotated[
        str | None,
        option(
            choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
            help="The lowest severity that is logged.",
            show_default="server.log_level of mlserver.yaml, else INFO",
        ),
    ] = None,
    artifact: Annotated[
        Path | None, option(metavar="DIR", help="Without a hub: serve the model version in DIR.")
    ] = None,
    url: Annotated[str | None, option("--hub", metavar="URL", help="The URL of the hub.", envvar="MENDEL_URL")] = None,
    directory: Directory = None,
    config: Config = None,
    parent: Parent = None,
) -> None:
    """
    Answer requests over REST, gRPC and ZMQ.

    With a hub, serve the deployments that the hub declares. Without a hub, serve the project itself, on the host
    and port of its mlserver.yaml. With MODEL_URI, serve one version of the registry, whatever is deployed later.
    """
    _follow(parent)
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.server.serve_options import ServeOptions, serve_with  # noqa: PLC0415 - help must be quick
    from mendel.app.settings import explain_settings  # noqa: PLC0415

    flags = _serving_flags(host, workers, {"rest": port, "grpc": grpc_port, "zmq": zmq_port})
    given = {name.replace("__", "."): value for name, value in flags.items()}
    origins = explain_settings(environment=system_environment(), file=config, flags=given)
    settings = settings_of(directory, config, **flags)
    if uri is not None:
        if artifact is not None:
            raise click.UsageError("Give MODEL_URI or --artifact, not both.")
        artifact = _fetched(uri, url, directory, settings)
    options = ServeOptions(
        hub=url,
        path=path,
        classifier=classifier,
        artifact=artifact,
        fixed=uri is not None,
        chosen=frozenset(origin.key for origin in origins if origin.source != "default"),
        log_level=cast("Level | None", log_level),
        beside_hub=parent is not None,
    )
    raise SystemExit(serve_with(settings, options))


def _fetched(uri: str, url: str | None, directory: str | None, settings: Settings) -> Path:
    from mendel.app.connect import open_client  # noqa: PLC0415 - help must be quick
    from mendel.app.directory import DataDirectory  # noqa: PLC0415
    from mendel.app.server.registered_version import fetch_version  # noqa: PLC0415

    data = DataDirectory(settings.root)
    with open_client(url or settings.hub.url, directory=directory, stream=sys.stderr) as client:
        if client.embedded:
            data.require()
        return fetch_version(client, uri, data.server / "versions")


def _serving_flags(host: str | None, workers: int | None, ports: Mapping[str, Any]) -> dict[str, Any]:
    """Give the flags of a server by the key of their setting; *ports* has those of each protocol, None if not given."""
    from mendel.transports.door_table import door_named  # noqa: PLC0415 - help must be quick

    keys = {f"serving__{door_named(name).ports.key}": given for name, given in ports.items()}
    told = {key: list(given) if isinstance(given, tuple | list) else given for key, given in keys.items()}
    return {"serving__host": host, "serving__workers": workers, **{key: value or None for key, value in told.items()}}


def _as_environment(flags: dict[str, Any], config: Path | None) -> dict[str, str]:
    told = {f"MENDEL_{name.upper()}": _text(value) for name, value in flags.items() if value is not None}
    return told | ({"MENDEL_CONFIG": str(config)} if config else {})


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _follow(parent: int | None) -> None:
    if parent is not None and sys.platform == "linux":
        from mendel.adapters.processes.child_processes import die_with_parent  # noqa: PLC0415 - help must be quick

        die_with_parent(parent)
