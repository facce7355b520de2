"""Commands on a project's files: its classifiers, the schema of its configuration, its CI workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mendel.app.cli.options import ClassifierName, Force, ProjectPath, ToolUrl
from mendel.app.cli.output import Result, warn
from mendel.app.cli.parameters import option
from mendel.app.cli.tables import CLASSIFIERS, ListedClassifier


def list_classifiers(*, classifier: ClassifierName = None, path: ProjectPath = None) -> Result:
    """List the classifiers of the project."""
    from mendel.app.project.project_file_schema import require_policies  # noqa: PLC0415 - help must be quick
    from mendel.projects import load_project, shown_classifiers  # noqa: PLC0415

    project = load_project(path or Path.cwd())
    require_policies(project)
    listed = tuple(
        ListedClassifier(
            classifier=one.name,
            predictor=f"{one.predictor.import_name}:{one.predictor.class_name}",
            description=one.description,
            default=one.name == project.default_classifier or len(project.names) == 1,
            source=one.predictor.source(project.root) is not None,
        )
        for one in shown_classifiers(project, classifier)
    )
    for hint in project.hints:
        warn(f"hint: {hint}")
    found = {"project": str(project.root), "file": project.file.name, "classifiers": listed}
    return Result(found, [CLASSIFIERS.grid(listed, title=f"Classifiers of {project.root}")])


def schema(
    *,
    output: Annotated[
        Path | None, option("--output", "-o", metavar="FILE", help="Write the schema to FILE instead of printing it.")
    ] = None,
) -> Result:
    """
    Print the JSON Schema of mlserver.yaml.

    Editors use the schema to complete and check the file.
    """
    import json  # noqa: PLC0415 - help must be quick

    from mendel.app.project.project_file_schema import mlserver_schema  # noqa: PLC0415
    from mendel.errors import StoreUnavailable  # noqa: PLC0415

    document = mlserver_schema()
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if output is None:
        return Result(document, [text])
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(f"The schema file {output} cannot be written: {error.strerror}.") from error
    return Result({"written": str(output)}, [f"✓ Wrote {output}"])


def init_github(*, tool_url: ToolUrl = None, path: ProjectPath = None, force: Force = False) -> Result:
    """
    Write a GitHub workflow that builds release tags.

    The workflow builds, tests and pushes the image of every release tag.
    """
    return _write_workflow("github", tool_url, path, force=force)


def init_gitlab(*, tool_url: ToolUrl = None, path: ProjectPath = None, force: Force = False) -> Result:
    """
    Write a GitLab pipeline that builds release tags.

    The pipeline builds, tests and pushes the image of every release tag.
    """
    return _write_workflow("gitlab", tool_url, path, force=force)


def _write_workflow(kind: str, tool_url: str | None, path: Path | None, *, force: bool) -> Result:
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.app.project.scaffold import Place, workflow_file, write_new  # noqa: PLC0415 - help must be quick
    from mendel.app.project.shared_bases import require_shared_bases  # noqa: PLC0415
    from mendel.projects import load_project  # noqa: PLC0415

    project = load_project(path or Path.cwd())
    require_shared_bases(project, GitPrograms())
    place = Place.of(project.root, project)
    file = workflow_file(kind, place, project.deployment, this_tool(), tool_url)
    (written,) = write_new([(place.top, file)], force=force)
    return Result({"written": [str(written)]}, [f"✓ Wrote {written}"])
