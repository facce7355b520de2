"""From which commit the installed tool was built."""

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
"""A file of the package that a build may write: the full commit, and optionally the repository's URL, a line each."""

_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def tool_build(git: Git, *, package: Path | None = None, install_record: str | None = None) -> ToolBuild:
    """
    The installed tool's version and commit: embedded at build, recorded by a VCS install, or HEAD of a checkout.

    Args:
        package: The directory of the package; by default where it is imported from.
        install_record: The text of ``direct_url.json``; by default what the installer wrote.
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
    """HEAD, but only where git tracks the package: an environment inside somebody's repository is not our checkout."""
    try:
        tree = git.work_tree(package) if "__init__.py" in git.tracked(package) else None
    except (Unsupported, InvalidProject):  # no git here, or a checkout of somebody whom git does not trust
        return ToolBuild(version=version)
    if tree is None or tree.head is None:
        return ToolBuild(version=version)
    return ToolBuild(version=version, commit=tree.head, url=tree.origin, how="checkout")
