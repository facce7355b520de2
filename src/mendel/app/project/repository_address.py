"""The address of a project's repository, as a hub can use it."""

from __future__ import annotations

from mendel.adapters.git import GitPrograms
from mendel.client.client import Client
from mendel.projects import Project


def repository_address(project: Project, client: Client) -> str:
    """
    Give the path of the project for a hub on this machine; for another hub, the URL of the repository's ``origin``.

    Without ``origin``, the path is given.
    """
    tree = None if client.on_this_machine else GitPrograms().work_tree(project.root)
    return str(project.root) if tree is None or tree.origin is None else tree.origin
