"""Writing the files of a new project: all of them or none, and nothing over what is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

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
    without_credentials,
)
from mendel.values.atomic_files import write_atomically

_CI_FILES = {"github": GITHUB_FILE, "gitlab": GITLAB_FILE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a project stands or will: its directory, its repository's root and what the repository is called."""

    root: Path
    top: Path
    directory: str
    repository: str

    @classmethod
    def of(cls, root: Path, project: Project | None = None) -> Place:
        """The place of *project*, or of one to be at *root*; outside of a repository its own directory is the root."""
        tree = _work_tree(root)
        if tree is None:
            name = root.resolve().name if project is None else repository_name(project, None)
            return cls(root=root, top=root, directory="", repository=name)
        from_origin = name_in_origin(tree.origin) if tree.origin else tree.top.name
        name = from_origin if project is None else repository_name(project, tree.origin)
        return cls(root=root, top=tree.top, directory=tree.prefix, repository=name)


def _work_tree(root: Path) -> WorkTree | None:
    """The checkout around *root* or, before it is made, around what it will be made in; without git there is none."""
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
    The workflow for *kind* (github, gitlab), relative to the repository's root.

    Raises:
        InvalidValue: Nobody knows where the tool is installed from, or the address holds credentials, or the configured
            registry lacks something.
    """
    source = url or tool.url
    if source is None:
        raise InvalidValue(
            "It is not known from which repository this tool can be installed.", remedy="Name it: --tool-url URL."
        )
    if holds_credentials(source):
        raise InvalidValue(
            f"The address of the tool holds a user or a password, and a workflow is read by many: "
            f"{without_credentials(source)}.",
            remedy="Name it without, and let the workflow's own settings of git log in.",
        )
    pipeline = CiWorkflowInputs(
        registry=deployment.registry,
        repository=place.repository,
        tool_source=pip_url(source),
        directory=place.directory,
    )
    render = github_workflow if kind == "github" else gitlab_pipeline
    return NewFile(path=_CI_FILES[kind], text=render(pipeline))


def write_new(files: Sequence[tuple[Path, NewFile]], *, force: bool) -> tuple[Path, ...]:
    """
    Write each file below its directory; looks at all of them before it writes one.

    Raises:
        AlreadyExists: Some are there, and *force* is not given; nothing was written.
        StoreUnavailable: The disk does not take one; those that were not there before are gone again.
    """
    targets = [directory / file.path for directory, file in files]
    there = [str(target) for target in targets if os.path.lexists(target)]
    if there and not force:
        raise AlreadyExists(
            f"Nothing was written, because there already is: {', '.join(there)}.", remedy="--force overwrites."
        )
    with ExitStack() as undo:
        for target, (_, file) in zip(targets, files, strict=True):
            if str(target) not in there:
                undo.callback(_forget, target)
            write_atomically(target, file.text.encode())
        undo.pop_all()
    return tuple(targets)


def _forget(target: Path) -> None:
    with suppress(OSError):  # what ended the writing is told
        target.unlink()
