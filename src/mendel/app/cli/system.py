"""Commands that say what is here: this tool, this machine, this project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mendel.app.cli.options import AsJson, ClassifierName, ProjectPath
from mendel.app.cli.output import print_json, print_table, say, warn

if TYPE_CHECKING:
    from mendel.projects import Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A classifier and its newest release, beside the checkout it stands in."""

    classifier: str
    version: str | None
    tag: str | None
    commit: str | None
    branch: str | None
    dirty: bool
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A configured classifier; ``source`` says whether the file of its predictor is there."""

    classifier: str
    predictor: str
    description: str
    default: bool
    source: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisTool:
    """What is installed; ``classifiers`` only where they were asked for."""

    version: str
    commit: str | None
    install: str
    url: str | None
    python: str
    classifiers: tuple[Standing, ...] = ()


def add_to(app: typer.Typer) -> None:
    """Add them."""
    app.command()(version)
    app.command()(status)
    app.command("list-classifiers")(list_classifiers)


def version(
    *,
    detailed: Annotated[
        bool, typer.Option("--detailed", help="Say where each classifier of the project stands, too.")
    ] = False,
    classifier: ClassifierName = None,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Print the version of this tool, the commit it was built from, and how it was installed."""
    import platform  # noqa: PLC0415 - help must be quick

    from mendel import __version__  # noqa: PLC0415
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415

    build = this_tool()
    told = ThisTool(
        version=__version__,
        commit=build.commit,
        install=build.install,
        url=build.url,
        python=platform.python_version(),
        classifiers=_standings(path, classifier) if detailed else (),
    )
    if json:
        print_json(told)
        return
    say(f"mendel {told.version}, commit {told.commit or 'unknown'} ({told.install}), Python {told.python}")
    if told.classifiers:
        print_table(
            "Classifiers",
            ("Classifier", "Version", "Tag", "Commit", "Branch", "Dirty", "Status"),
            (
                (
                    c.classifier,
                    c.version or "-",
                    c.tag or "-",
                    (c.commit or "-")[:8],
                    c.branch or "-",
                    _yes(c.dirty),
                    c.status,
                )
                for c in told.classifiers
            ),
            empty="",
        )


def status(*, json: AsJson = False) -> None:
    """Show what this machine has: git, engines, extras, credentials of registries, and this tool's commit."""
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.images.host_tools import this_machine  # noqa: PLC0415 - help must be quick
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415

    build, machine = this_tool(), this_machine(system_environment())
    if json:
        print_json({"tool": build, "machine": machine})
        return
    rows = [("mendel", "yes", f"{build.version}, commit {build.commit or 'unknown'} ({build.install})")]
    rows += [(one.name, _yes(one.answers), one.said) for one in machine.programs]
    rows += [
        (f"mendel[{one.name}]", _yes(not one.missing), f"missing: {', '.join(one.missing)}" if one.missing else "-")
        for one in machine.extras
    ]
    rows.append(("registry credentials", _yes(bool(machine.credentials)), ", ".join(machine.credentials) or "-"))
    print_table("This machine", ("What", "Here", "Details"), rows, empty="")


def list_classifiers(*, classifier: ClassifierName = None, path: ProjectPath = None, json: AsJson = False) -> None:
    """List the classifiers that the project configures."""
    from mendel.app.project.schema import require_policies  # noqa: PLC0415 - help must be quick
    from mendel.projects import load_project, shown_classifiers  # noqa: PLC0415

    project = load_project(path or Path.cwd())
    require_policies(project)
    listed = [
        Listed(
            classifier=one.name,
            predictor=f"{one.predictor.import_name}:{one.predictor.class_name}",
            description=one.description,
            default=one.name == project.default_classifier or len(project.names) == 1,
            source=one.predictor.source(project.root) is not None,
        )
        for one in shown_classifiers(project, classifier)
    ]
    if json:
        print_json({"project": str(project.root), "file": project.file.name, "classifiers": listed})
        return
    print_table(
        f"Classifiers of {project.root}",
        ("Classifier", "Predictor", "Default", "Description"),
        (
            (x.classifier, x.predictor + ("" if x.source else " (missing)"), _yes(x.default), x.description)
            for x in listed
        ),
        empty="",
    )
    for hint in project.hints:
        warn(f"hint: {hint}")


def _standings(path: Path | None, classifier: str | None) -> tuple[Standing, ...]:
    """Where each classifier stands; without a project around the working directory or git, nothing but a hint."""
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - help must be quick
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.errors import ProjectNotFound, Unsupported  # noqa: PLC0415
    from mendel.projects import load_project, observe, release_status, shown_classifiers  # noqa: PLC0415

    try:
        project = load_project(path or Path.cwd())
    except ProjectNotFound as error:
        if path is not None:
            raise
        warn(f"hint: {error}")
        return ()
    try:
        seen = observe(project, GitPrograms())
    except Unsupported as error:  # an image has no git
        warn(f"hint: {error}")
        return ()
    rows = {row.classifier: row for row in release_status(seen, this_tool())}
    return tuple(_standing(seen, one.name, rows[one.name].status) for one in shown_classifiers(project, classifier))


def _standing(seen: Observation, name: str, said: str) -> Standing:
    release, tree = seen.newest.get(name), seen.work_tree
    return Standing(
        classifier=name,
        version=None if release is None else str(release.tag.version),
        tag=None if release is None else str(release.tag),
        commit=None if tree is None else tree.head,
        branch=None if tree is None else tree.branch,
        dirty=tree is not None and bool(tree.changed),
        status=said,
    )


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
