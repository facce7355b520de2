"""Find the commit from which the installed tool was built."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mendel.errors import InvalidProject, Unsupported
from mendel.projects.ports import Git
from mendel.projects.releases import ToolBuild
from mendel.projects.repository_names import shared_url
from mendel.version import __version__

EMBEDDED = "_commit.txt"
"""A package file that a build may write: one line with the full commit id, and a second with the repository's URL."""

_PACKAGE = Path(__file__).parent.parent
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
    here = _PACKAGE if package is None else package
    record = _install_record(here) if install_record is None else install_record
    return _embedded(here) or _from_vcs(record) or _from_checkout(here, git)


def _install_record(package: Path) -> str:
    """Read ``direct_url.json`` beside the package; an editable installation has none there, but it is a checkout."""
    file = package.parent / f"mendel-{__version__}.dist-info" / "direct_url.json"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _embedded(package: Path) -> ToolBuild | None:
    file = package / EMBEDDED
    lines = file.read_text(encoding="utf-8").split() if file.is_file() else []
    if not lines or not _COMMIT.fullmatch(lines[0]):
        return None
    commit, url, *_ = [*lines, None]
    return ToolBuild(version=__version__, commit=commit, url=shared_url(url), how="embedded")


def _from_vcs(record: str) -> ToolBuild | None:
    document: Any = json.loads(record) if record else {}
    commit = document.get("vcs_info", {}).get("commit_id", "")
    if not _COMMIT.fullmatch(commit):
        return None
    return ToolBuild(version=__version__, commit=commit, url=shared_url(document.get("url")), how="vcs")


def _from_checkout(package: Path, git: Git) -> ToolBuild:
    """Give HEAD's commit if it contains the package; an environment inside another repository does not count."""
    try:
        head = git.head_of(package / "__init__.py")
    except (Unsupported, InvalidProject):  # git is not installed, or refuses a checkout owned by another user
        return ToolBuild(version=__version__)
    if head is None:
        return ToolBuild(version=__version__)
    return ToolBuild(version=__version__, commit=head.commit, url=shared_url(head.origin), how="checkout")
