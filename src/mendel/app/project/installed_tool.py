"""This tool and the git on this machine, as the command line uses them."""

from __future__ import annotations

from mendel.adapters.git import GitPrograms
from mendel.projects import ToolBuild, tool_build


def this_tool() -> ToolBuild:
    """The installed Mendel."""
    return tool_build(GitPrograms())
