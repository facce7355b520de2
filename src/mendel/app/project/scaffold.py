"""Write the files of a new project: either all files or none, without overwriting existing files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mendel.adapters.git import GitPrograms
from mendel.errors import AlreadyExists, InvalidValue, Unsupported
from mendel.projects import (
    GITHUB_FILE,
    GITLAB_FILE,
    CiWorkflowInputs,
    DeploymentSection,
    NewFile,
    Project,
    ToolBuild,
    WorkTree,
    github_workflow,
    gitlab_pipeline,
    holds_credentials,
    name_in_origin,
    pip_url,
    repository_name,
    shared_url,
    without_credentials,
)
from mendel.values import ModelName
from mendel.values.atomic_files import write_atomically

if TYPE_CHECKING:
    from mendel.projects.table_project import TaskName

_CI_FILES = {"github": GITHUB_FILE, "gitlab": GITLAB_FILE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    The location of a project.

    ``root`` is the project's directory, ``top`` the root of its git repository, ``directory`` the path of ``root``
    below ``top`` (empty if they are equal), and ``repository`` the name of the repository.
    """

    root: Path
    top: Path
    directory: str
    repository: str

    @classmethod
    def of(cls, root: Path, project: Project | None = None) -> Place:
        """
        Find the location of the project at *root*, which need not exist yet.

        Args:
            project: The project at *root*; None for a project that is not created yet. Outside a git repository, *root*
                counts as the root of the repository.
        """
        tree = _work_tree(root)
        if tree is None:
            name = root.resolve().name if project is None else repository_name(project, None)
            return cls(root=root, top=root, directory="", repository=name)
        from_origin = name_in_origin(tree.origin) if tree.origin else tree.top.name
        name = from_origin if project is None else repository_name(project, tree.origin)
        return cls(root=root, top=tree.top, directory=tree.prefix, repository=name)


def _work_tree(root: Path) -> WorkTree | None:
    """Give the git working tree that contains *root* or its nearest existing parent; None without git or repository."""
    there = next(place for place in (root, *root.parents) if place.is_dir())
    try:
        tree = GitPrograms().work_tree(there)
    except Unsupported:
        return None
    if tree is None:
        return None
    below = root.relative_to(there).as_posix()
    return replace(tree, prefix="/".join(part for part in (tree.prefix, below) if part not in {"", "."}))


def workflow_file(kind: str, place: Place, deployment: DeploymentSection, tool: ToolBuild, url: str | None) -> NewFile:
    """
    Build the CI workflow file for *kind* (``github`` or ``gitlab``), with its path below the repository's root.

    Args:
        url: The URL from which the workflow installs Mendel; None uses the origin of the installed Mendel.

    Raises:
        InvalidValue: The URL is unknown or contains credentials, or the registry in *deployment* is incomplete.
    """
    source = url or tool.url
    if source is None:
        raise InvalidValue(
            "The repository from which the workflow can install Mendel is unknown.",
            remedy="Name the repository with --tool-url URL.",
        )
    if shared_url(source) is None:
        raise InvalidValue(
            f"No CI machine can install Mendel from {source}, which is a path of this machine.",
            remedy="Name a repository that the CI machines reach with --tool-url URL.",
        )
    if holds_credentials(source):
        raise InvalidValue(
            f"The URL from which the workflow would install Mendel contains a user name or a password: "
            f"{without_credentials(source)}.",
            remedy="Give the URL without credentials, and configure git's login in the CI system.",
        )
    pipeline = CiWorkflowInputs(
        registry=deployment.registry,
        repository=place.repository,
        tool_source=pip_url(source),
        directory=place.directory,
    )
    render = github_workflow if kind == "github" else gitlab_pipeline
    return NewFile(path=_CI_FILES[kind], text=render(pipeline))


def table_project(
    name: ModelName, predictor_class: str, *, data: Path, target: str, task: str | None
) -> tuple[tuple[NewFile, ...], tuple[str, ...]]:
    """
    Make the files of a project that learns *target* from the table in the file *data*, and say what was decided.

    Raises:
        InvalidInput: The file is not a table, or has no such target, or the target cannot be learnt.
    """
    from mendel.adapters.arrow import read_table_and_times  # noqa: PLC0415 - heavy; other projects need no table
    from mendel.projects.table_project import columns_of, table_project_files, task_of_target  # noqa: PLC0415

    table, times = read_table_and_times(data)
    columns = columns_of(table, times, target)
    chosen = task_of_target(table, target, times, cast("TaskName | None", task))
    files = table_project_files(
        name, predictor_class, source=data.name, table=table, target=target, columns=columns, task=chosen
    )
    counted = {"numbers": columns.numbers, "text or truth": columns.categories, "dates": columns.dates}
    positive = "" if chosen.positive is None else f"; the positive class is {chosen.positive}"
    told = (
        f"  {data.name} has {len(table)} rows; "
        + "; ".join(f"{kind}: {', '.join(names)}" for kind, names in counted.items() if names),
        f"  {chosen.task}, because {chosen.reason}{positive}; the metric is {chosen.metric}"
        + ("" if task else " (another task: --task)"),
    )
    return files, told


def write_new(files: Sequence[tuple[Path, NewFile]], *, force: bool) -> tuple[Path, ...]:
    """
    Write each file below its directory, after checking that none exists.

    Args:
        force: True overwrites existing files.

    Raises:
        AlreadyExists: A file exists, and *force* is False; no file was written.
        StoreUnavailable: A file cannot be written; new files that were already written are deleted.
    """
    targets = [directory / file.path for directory, file in files]
    there = [str(target) for target in targets if os.path.lexists(target)]
    if there and not force:
        raise AlreadyExists(
            f"No file was written, because these files exist already: {', '.join(there)}.",
            remedy="Give --force to overwrite them.",
        )
    with ExitStack() as undo:
        for target, (_, file) in zip(targets, files, strict=True):
            if str(target) not in there:
                undo.callback(_forget, target)
            write_atomically(target, file.text.encode())
        undo.pop_all()
    return tuple(targets)


def _forget(target: Path) -> None:
    with suppress(OSError):  # the error that ended the writing is raised instead
        target.unlink()
