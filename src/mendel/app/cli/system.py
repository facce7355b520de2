"""Commands about this installation: the machine, the tool, settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import ClassifierName, Config, Directory, ProjectPath
from mendel.app.cli.output import Grid, Result, warn
from mendel.app.cli.parameters import option
from mendel.app.cli.tables import CLASSIFIER_STATES, SETTINGS, ClassifierState, yes

if TYPE_CHECKING:
    from mendel.app.images.host_tools import Machine
    from mendel.projects import RepositoryState, ToolBuild


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolVersion:
    """The installed Mendel; ``classifiers`` is empty unless they were requested."""

    version: str
    commit: str | None
    install: str
    url: str | None
    python: str
    classifiers: tuple[ClassifierState, ...] = ()


def status() -> Result:
    """Show git, container engines, extras and registry logins."""
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.images.host_tools import this_machine  # noqa: PLC0415 - help must be quick
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415

    tool, machine = this_tool(), this_machine(system_environment())
    rows = tuple(_machine_rows(tool, machine))
    return Result(
        {"tool": tool, "machine": machine},
        [Grid(title="This machine", columns=("What", "Here", "Details"), rows=rows, empty="")],
    )


def version(
    *,
    detailed: Annotated[bool, option("--detailed", help="Also print the state of each classifier.")] = False,
    classifier: ClassifierName = None,
    path: ProjectPath = None,
) -> Result:
    """Print the version, commit and origin of this tool."""
    import platform  # noqa: PLC0415 - help must be quick

    from mendel import __version__  # noqa: PLC0415
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415

    build = this_tool()
    found = ToolVersion(
        version=__version__,
        commit=build.commit,
        install=build.install,
        url=build.url,
        python=platform.python_version(),
        classifiers=_classifier_states(path, classifier) if detailed else (),
    )
    line = f"mendel {found.version}, commit {found.commit or 'unknown'} ({found.install}), Python {found.python}"
    return Result(found, [line, *([CLASSIFIER_STATES.grid(found.classifiers)] if found.classifiers else [])])


def show_config(*, directory: Directory = None, config: Config = None) -> Result:
    """Print every setting and its source."""
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.settings import explain_settings  # noqa: PLC0415 - help must be quick

    return SETTINGS.result(
        explain_settings(environment=system_environment(), file=config, flags={"directory": directory})
    )


def _machine_rows(tool: ToolBuild, machine: Machine) -> Iterator[tuple[str, str, str]]:
    yield ("mendel", "yes", f"{tool.version}, commit {tool.commit or 'unknown'} ({tool.install})")
    for program in machine.programs:
        yield (program.name, yes(program.answers), program.said)
    for extra in machine.extras:
        missing = f"missing: {', '.join(extra.missing)}" if extra.missing else "-"
        yield (f"mendel[{extra.name}]", yes(not extra.missing), missing)
    yield ("registry credentials", yes(bool(machine.credentials)), ", ".join(machine.credentials) or "-")


def _classifier_states(path: Path | None, classifier: str | None) -> tuple[ClassifierState, ...]:
    """Give the state of each classifier; without a project or without git, print a hint and give an empty tuple."""
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - help must be quick
    from mendel.app.images.release_files import image_files  # noqa: PLC0415
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.errors import ProjectNotFound, Unsupported  # noqa: PLC0415
    from mendel.projects import load_project, read_repository_state, release_status, shown_classifiers  # noqa: PLC0415

    try:
        project = load_project(path or Path.cwd())
    except ProjectNotFound as error:
        if path is not None:
            raise
        warn(f"hint: {error}")
        return ()
    try:
        seen = read_repository_state(project, GitPrograms(), image_files)
    except Unsupported as error:  # an image has no git
        warn(f"hint: {error}")
        return ()
    rows = {row.classifier: row for row in release_status(seen, this_tool())}
    return tuple(
        _classifier_state(seen, one.name, rows[one.name].status) for one in shown_classifiers(project, classifier)
    )


def _classifier_state(seen: RepositoryState, name: str, status: str) -> ClassifierState:
    release, tree = seen.newest.get(name), seen.work_tree
    return ClassifierState(
        classifier=name,
        version=None if release is None else str(release.tag.version),
        tag=None if release is None else str(release.tag),
        commit=None if tree is None else tree.head,
        branch=None if tree is None else tree.branch,
        dirty=tree is not None and bool(tree.changed),
        status=status,
    )
