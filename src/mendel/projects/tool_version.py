"""Find the commit from which the installed tool was built."""

from __future__ import annotations

import json
import re
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from mendel.errors import InvalidProject, Unsupported
from mendel.projects.ports import Git
from mendel.projects.releases import ToolBuild
from mendel.projects.repository_names import without_credentials

EMBEDDED = "_commit.txt"
"""A package file that a build may write: one line with the full commit id, and a second with the repository's URL."""

_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def tool_build(git: Git, *, package: Path | None = None, install_record: str | None = None) -> ToolBuild:
    """
    Find the version and commit of the installed tool.

    The commit comes from the file that the build embedded, else from the record of an installation from git, else from
    HEAD of the checkout that contains the package.

    Args:
        package: The package's directory; by default the imported package.
        install_record: The text of ``direct_url.json``; by default the file that the installer wrote.
    """
    here = Path(str(resources.files("mendel"))) if package is None else package
    version, recorded = _installed()
    record = recorded if install_record is None else install_record
    return _embedded(here, version) or _from_vcs(record, version) or _from_checkout(here, version, git)


def _installed() -> tuple[str, str | None]:
    try:
        found = metadata.distribution("mendel")
    except metadata.PackageNotFoundError:
        return "0", None
    return found.version, found.read_text("direct_url.json")


def _embedded(package: Path, version: str) -> ToolBuild | None:
    file = package / EMBEDDED
    lines = file.read_text(encoding="utf-8").split() if file.is_file() else []
    if not lines or not _COMMIT.fullmatch(lines[0]):
        return None
    return ToolBuild(version=version, commit=lines[0], url=lines[1] if len(lines) > 1 else None, how="embedded")


def _from_vcs(record: str | None, version: str) -> ToolBuild | None:
    document: Any = json.loads(record) if record else {}
    commit = document.get("vcs_info", {}).get("commit_id", "")
    if not _COMMIT.fullmatch(commit):
        return None
    return ToolBuild(
        version=version, commit=commit, url=without_credentials(document.get("url", "")) or None, how="vcs"
    )


def _from_checkout(package: Path, version: str, git: Git) -> ToolBuild:
    """Give HEAD's commit if git tracks the package; a virtual environment inside another repository does not count."""
    try:
        tree = git.work_tree(package) if "__init__.py" in git.tracked(package) else None
    except (Unsupported, InvalidProject):  # git is not installed, or refuses a checkout owned by another user
        return ToolBuild(version=version)
    if tree is None or tree.head is None:
        return ToolBuild(version=version)
    return ToolBuild(version=version, commit=tree.head, url=tree.origin, how="checkout")
