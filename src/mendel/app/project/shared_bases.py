"""Base images that other machines cannot reach: layouts and archives that git does not track."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mendel.errors import InvalidProject
from mendel.projects import Git, Project

_LAYOUT, _ARCHIVE = "oci:", "oci-archive:"
_REMEDY = (
    "Write the base image into the repository with 'mendel base export --output base.tar', set build.base_image to "
    "oci-archive:base.tar, run 'mendel lock' and commit all three files; or set build.base_image to a registry's image."
)


def unshared_bases(project: Project, git: Git, names: Iterable[str] | None = None) -> tuple[str, ...]:
    """
    Give the base images of the classifiers *names* that exist on this machine only, each once.

    A layout or an archive in the project is shared if git tracks its files; an absolute path never is.
    """
    wanted = [project.classifier(name) for name in (project.names if names is None else names)]
    local = {one.build.base_image for one in wanted if one.build.base_image.startswith((_LAYOUT, _ARCHIVE))}
    tracked = frozenset(git.tracked(project.root)) if local else frozenset()
    return tuple(sorted(base for base in local if not _is_tracked(base, tracked)))


def require_shared_bases(project: Project, git: Git) -> None:
    """
    Check that a clean clone has every base image of *project*.

    Raises:
        InvalidProject: A base image exists on this machine only; the error says how to share it.
    """
    if bases := unshared_bases(project, git):
        raise InvalidProject(_sentence(bases), path=str(project.file), remedy=_REMEDY)


def hint_of(bases: Iterable[str]) -> str:
    """Tell what to do about *bases*, which exist on this machine only."""
    return f"{_sentence(bases)} {_REMEDY}"


def _sentence(bases: Iterable[str]) -> str:
    return f"The base image {', '.join(bases)} exists on this machine only, because git does not track it."


def _is_tracked(base: str, tracked: frozenset[str]) -> bool:
    path = Path(base.removeprefix(_LAYOUT).removeprefix(_ARCHIVE))
    if path.is_absolute():
        return False
    name, _, tag = path.as_posix().rpartition(":")
    names = {path.as_posix(), *([name] if tag else [])}
    return any(f"{one}/index.json" in tracked if base.startswith(_LAYOUT) else one in tracked for one in names)
