"""Find the repository that a registration names, only below the directories and URLs in ``hub.project_roots``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mendel.errors import Forbidden
from mendel.registry import Registration
from mendel.values import Principal


def within_roots(wish: Registration, roots: Sequence[str], *, caller: Principal) -> Registration:
    """
    Check the repository that *wish* names, and give *wish* with the path of a directory resolved.

    The hub runs git and the project's code in a directory, so an API key may name only directories below *roots*. A key
    may also name a URL below a URL in *roots*; the hub stores this URL and never opens it. A user of the data
    directory, who can run anything on this machine, may name every repository.

    Raises:
        Forbidden: The repository is not below one of *roots*; the message reveals nothing of the disk.
    """
    if wish.project is None or caller.is_local:
        return wish
    named = wish.project.repository
    if Path(named).is_absolute():
        found = next((path for root in roots if (path := _directory(named, root)) is not None), None)
        if found is not None:
            return replace(wish, project=replace(wish.project, repository=str(found)))
    elif ".." not in named.split("/") and any(named.startswith(f"{root.rstrip('/')}/") for root in roots):
        return wish
    raise Forbidden(
        "The repository of the project is not below one of the directories and URLs in hub.project_roots.",
        remedy="Register on the hub's machine without an API key, or add the repository to hub.project_roots.",
    )


def _directory(named: str, root: str) -> Path | None:
    """Resolve the directory *named*; None if it is not a directory below *root*."""
    try:
        place, found = Path(root).resolve(strict=True), Path(named).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    return found if Path(root).is_absolute() and found.is_relative_to(place) and found.is_dir() else None
