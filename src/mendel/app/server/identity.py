"""What a server is, as its answers say it: project, release, commit, tool, and the image it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mendel import __version__
from mendel.adapters.git import GitPrograms
from mendel.app.project.installed_tool import this_tool
from mendel.errors import InvalidProject, InvalidValue, MendelError, Unsupported
from mendel.projects import Git, Project, ToolBuild, newest_releases, repository_name
from mendel.serving import ImageIdentity, ServerIdentity
from mendel.values import ReleaseTag

MANIFEST: Final = "mendel-manifest.json"
"""Stands in the project directory of an image: what it was built from, since no git goes with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedRelease:
    """A server's identity, and the release of the code that it hosts; None between releases."""

    identity: ServerIdentity
    release_tag: str | None = None


class _Release(msgspec.Struct):
    tag: str | None = None
    commit: str | None = None
    repository: str | None = None
    tool_commit: str | None = None


class _Manifest(msgspec.Struct):
    release: _Release | None = None


def identify(project: Project | None, classifier: str | None, environment: Mapping[str, str]) -> HostedRelease:
    """
    Say what runs here: from an image's manifest where one stands in the project, else from git, as far as there is any.

    Args:
        classifier: Whose release counts; None: of several, whose releases may differ, none.
        environment: May hold ``MENDEL_IMAGE_TAG``, ``MENDEL_IMAGE_COMMIT`` and ``MENDEL_IMAGE_DIGEST``.
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
    identity = ServerIdentity(
        project=name,
        git_commit=commit,
        tool_version=tool.version if tool.version != "0" else __version__,
        tool_commit=tool.commit or (manifest and manifest.release and manifest.release.tool_commit) or None,
        image=_image(manifest, environment),
    )
    return HostedRelease(identity=identity, release_tag=tag if tag is not None and _is_release(tag) else None)


def _tool() -> ToolBuild:
    try:
        return this_tool()
    except MendelError:  # no git here, or one that refuses the checkout: the version is known all the same
        return ToolBuild(version=__version__)


def _manifest(root: Path) -> _Manifest | None:
    path = root / MANIFEST
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except msgspec.DecodeError as error:
        raise InvalidProject(f"not an image's manifest: {error}.", path=str(path)) from error


def _checkout(project: Project, classifier: str | None, git: Git) -> tuple[str, str | None, str | None]:
    """Name, commit and release of the code in a working tree; with changes it is no release, and the commit says so."""
    try:
        tree = git.work_tree(project.root)
        if tree is None or tree.head is None:
            return repository_name(project, None if tree is None else tree.origin), None, None
        name = repository_name(project, tree.origin)
        if tree.changed:
            return name, f"{tree.head}-dirty", None
        here = [tag for tag in git.tags(tree.top) if tag.commit == tree.head]
    except (Unsupported, InvalidProject):
        return repository_name(project, None), None, None
    found = newest_releases(here, [classifier] if classifier else [])
    return name, tree.head, str(found[classifier][0]) if classifier in found else None


def _image(manifest: _Manifest | None, environment: Mapping[str, str]) -> ImageIdentity | None:
    built = (manifest and manifest.release) or _Release()
    image = ImageIdentity(
        tag=environment.get("MENDEL_IMAGE_TAG") or built.tag,
        commit=environment.get("MENDEL_IMAGE_COMMIT") or built.commit,
        digest=environment.get("MENDEL_IMAGE_DIGEST") or None,
    )
    return image if image.document else None


def _is_release(tag: str) -> bool:
    try:
        ReleaseTag.parse(tag)
    except InvalidValue:
        return False
    return True
