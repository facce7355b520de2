"""Find the project, commit, release, Mendel version and image of a server, for the metadata of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mendel.adapters.git import GitPrograms
from mendel.app.project.installed_tool import this_tool
from mendel.errors import InvalidProject, InvalidValue, MendelError, Unsupported
from mendel.projects import Git, Project, ToolBuild, newest_releases, repository_name
from mendel.serving import ImageIdentity, ServerIdentity
from mendel.values import ReleaseTag
from mendel.version import __version__

MANIFEST: Final = "mendel-manifest.json"
"""A file in an image's project directory that states release and commit, because images contain no git repository."""


class _Release(msgspec.Struct):
    tag: str | None = None
    commit: str | None = None
    repository: str | None = None
    tool_commit: str | None = None


class _Manifest(msgspec.Struct):
    release: _Release | None = None
    lock: str | None = None


def identify(project: Project | None, classifier: str | None, environment: Mapping[str, str]) -> ServerIdentity:
    """
    Find the identity of a server from the image's manifest in the project, else from the project's git repository.

    Args:
        project: The project that the server hosts; None when it hosts no project.
        classifier: The classifier whose release is meant; None gives no release, because classifiers are released
            separately.
        environment: The environment variables; ``MENDEL_IMAGE_TAG``, ``MENDEL_IMAGE_COMMIT`` and
            ``MENDEL_IMAGE_DIGEST`` are read.
    """
    tool = _tool()
    manifest = None if project is None else _manifest(project.root)
    if project is None:
        name, commit, tag = None, None, None
    elif manifest is not None:
        built = manifest.release or _Release()
        name = built.repository or repository_name(project, None)
        commit, tag = built.commit or environment.get("MENDEL_IMAGE_COMMIT"), built.tag
    else:
        name, commit, tag = _checkout(project, classifier, GitPrograms())
    release = tag if tag is not None and _is_release(tag) else None
    return ServerIdentity(
        project=name,
        git_commit=commit,
        release=release,
        tool_version=tool.version,
        tool_commit=tool.commit or (manifest and manifest.release and manifest.release.tool_commit) or None,
        image=_image(manifest, environment),
    )


def _tool() -> ToolBuild:
    try:
        return this_tool()
    except MendelError:  # git is not installed or refuses the checkout; the version is known without git
        return ToolBuild(version=__version__)


def _manifest(root: Path) -> _Manifest | None:
    path = root / MANIFEST
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except msgspec.DecodeError as error:
        raise InvalidProject(f"the file is not the manifest of an image: {error}.", path=str(path)) from error


def _checkout(project: Project, classifier: str | None, git: Git) -> tuple[str, str | None, str | None]:
    """
    Give the name, commit and release of a project in a git working tree.

    With uncommitted changes the commit ends with ``-dirty`` and the release is None. Without git, commit and release
    are None.
    """
    try:
        tree = git.work_tree(project.root)
        if tree is None or tree.head is None:
            return repository_name(project, None if tree is None else tree.origin), None, None
        name = repository_name(project, tree.origin)
        if tree.changed or git.unwatched(project.root):
            return name, f"{tree.head}-dirty", None
        found = newest_releases(
            git,
            tree.top,
            git.tag_names(tree.top),
            [classifier] if classifier else [],
            counts=lambda tag: tag.annotated and tag.commit == tree.head,
        )
    except (Unsupported, InvalidProject):
        return repository_name(project, None), None, None
    return name, tree.head, str(found[classifier][0]) if classifier in found else None


def _image(manifest: _Manifest | None, environment: Mapping[str, str]) -> ImageIdentity | None:
    built = (manifest and manifest.release) or _Release()
    image = ImageIdentity(
        tag=environment.get("MENDEL_IMAGE_TAG") or built.tag,
        commit=environment.get("MENDEL_IMAGE_COMMIT") or built.commit,
        digest=environment.get("MENDEL_IMAGE_DIGEST") or None,
        lock=None if manifest is None else manifest.lock,
    )
    return image if image.document else None


def _is_release(tag: str) -> bool:
    try:
        ReleaseTag.parse(tag)
    except InvalidValue:
        return False
    return True
