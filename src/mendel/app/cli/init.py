"""Commands that begin or change a project's files: init, workflows, migration, schema."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from mendel.app.cli.options import AsJson, ProjectPath
from mendel.app.cli.output import print_json, say, warn

Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
ToolUrl = Annotated[
    str | None, typer.Option("--tool-url", metavar="URL", help="Install the tool from this git repository.")
]
_CI = ("github", "gitlab", "none")


def add_to(app: typer.Typer) -> None:
    """Add them."""
    app.command()(init)
    app.command("init-github")(init_github)
    app.command("init-gitlab")(init_gitlab)
    app.command()(schema)
    migrate = typer.Typer(help="Bring what older tools wrote to today's form.", no_args_is_help=True)
    migrate.command("mlserver")(migrate_mlserver)
    migrate.callback()(_migrations)
    app.add_typer(migrate, name="migrate")


def init(
    *,
    classifier: Annotated[
        str | None, typer.Option("--classifier", metavar="NAME", help="Its name.", show_default="the directory's name")
    ] = None,
    predictor_class: Annotated[str, typer.Option(metavar="CLASS", help="The predictor's class.")] = "Predictor",
    ci: Annotated[
        str | None,
        typer.Option("--ci", metavar="[github|gitlab|none]", help="The workflow to write.", show_default="github"),
    ] = None,
    tool_url: ToolUrl = None,
    path: Annotated[
        Path | None, typer.Option("--path", metavar="DIR", help="Where; made if missing.", show_default="here")
    ] = None,
    force: Force = False,
    json: AsJson = False,
) -> None:
    """Write a first project that serves as it stands: configuration, predictor, requirements, a CI workflow."""
    if ci is not None and ci not in _CI:
        raise typer.BadParameter(f"{ci!r} is not github, gitlab or none")
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.app.project.scaffold import Place, workflow_file, write_new  # noqa: PLC0415 - help must be quick
    from mendel.projects import DeploymentSection, classifier_name, skeleton  # noqa: PLC0415
    from mendel.values import ModelName  # noqa: PLC0415

    root, tool = (path or Path.cwd()).absolute(), this_tool()
    name = classifier_name(root.name) if classifier is None else ModelName(classifier)
    files = [(root, file) for file in skeleton(name, predictor_class)]
    if ci is None and tool_url is None and tool.url is None:
        warn("hint: no CI workflow is written: where this tool comes from is not known; see mendel init-github --help")
    elif ci != "none":
        place = Place.of(root)
        files.append((place.top, workflow_file(ci or "github", place, DeploymentSection(), tool, tool_url)))
    written = write_new(files, force=force)
    if json:
        print_json({"classifier": name, "written": [str(file) for file in written]})
        return
    for file in written:
        say(f"✓ Wrote {file}")
    say()
    say("Next steps:")
    say(f"  1. Put your model into {root / 'predictor.py'}")
    say(f"  2. Try it: mendel serve --path {quote(str(root))}")
    say("  3. Pin what it needs, commit it, and release it: mendel lock; git commit; mendel tag minor")


def init_github(
    *, tool_url: ToolUrl = None, path: ProjectPath = None, force: Force = False, json: AsJson = False
) -> None:
    """Write a GitHub workflow that makes, tries and pushes the image of every release tag."""
    _write_workflow("github", tool_url, path, force=force, json=json)


def init_gitlab(
    *, tool_url: ToolUrl = None, path: ProjectPath = None, force: Force = False, json: AsJson = False
) -> None:
    """Write a GitLab pipeline that makes, tries and pushes the image of every release tag."""
    _write_workflow("gitlab", tool_url, path, force=force, json=json)


def _write_workflow(kind: str, tool_url: str | None, path: Path | None, *, force: bool, json: bool) -> None:
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.app.project.scaffold import Place, workflow_file, write_new  # noqa: PLC0415 - help must be quick
    from mendel.projects import load_project  # noqa: PLC0415

    project = load_project(path or Path.cwd())
    place = Place.of(project.root, project)
    file = workflow_file(kind, place, project.deployment, this_tool(), tool_url)
    (written,) = write_new([(place.top, file)], force=force)
    if json:
        print_json({"written": [str(written)]})
        return
    say(f"✓ Wrote {written}")


def _migrations() -> None:
    """Keep `migrate` a group, though there is one command in it."""


def migrate_mlserver(
    *,
    path: Annotated[
        Path | None, typer.Option("--path", metavar="DIR", help="Where classifier.yaml is.", show_default="here")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the new file.")] = False,
    json: AsJson = False,
) -> None:
    """Rewrite a legacy classifier.yaml as mlserver.yaml; the old file stays."""
    from mendel.app.project.scaffold import write_new  # noqa: PLC0415 - help must be quick
    from mendel.errors import ProjectNotFound  # noqa: PLC0415
    from mendel.projects import FILE, LEGACY_FILE, NewFile, load_project, migrated, read_document  # noqa: PLC0415

    given = (path or Path.cwd()).absolute()
    legacy = given if given.is_file() else given / LEGACY_FILE
    if not legacy.is_file():
        raise ProjectNotFound(f"There is no {legacy}.", remedy="Give its directory with --path.")
    project = load_project(legacy)
    file = NewFile(path=FILE, text=migrated(read_document(legacy), legacy.read_text(encoding="utf-8")))
    if not dry_run:
        write_new([(legacy.parent, file)], force=False)
    if json:
        print_json({"file": str(legacy.parent / FILE), "text": file.text, "written": not dry_run})
        return
    for hint in project.hints[1:]:
        warn(f"hint: {hint}")
    if dry_run:
        say(file.text.rstrip())
        return
    say(f"✓ Wrote {legacy.parent / FILE}")
    say(f"  {legacy.name} is not read any longer: git rm {legacy.name}")


def schema(
    *,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Print the JSON Schema of mlserver.yaml, from which editors complete it."""
    import json as json_format  # noqa: PLC0415 - help must be quick

    from mendel.app.project.schema import mlserver_schema  # noqa: PLC0415
    from mendel.errors import StoreUnavailable  # noqa: PLC0415

    text = json_format.dumps(mlserver_schema(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        say(text.rstrip())
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(f"{output} cannot be written: {error.strerror}.") from error
    if json:
        print_json({"written": str(output)})
        return
    say(f"✓ Wrote {output}")
