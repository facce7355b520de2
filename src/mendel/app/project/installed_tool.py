"""The version and the commit of the installed Mendel."""

from __future__ import annotations

from mendel.adapters.git import GitPrograms
from mendel.projects import ToolBuild, tool_build


def this_tool() -> ToolBuild:
    """Give the version, commit and origin of the installed Mendel."""
    return tool_build(GitPrograms())
