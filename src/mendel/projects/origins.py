"""What a repository is called, and where it is, without secrets."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from mendel.projects.nouns import Project

_SCP_FORM = re.compile(r"[^/@:]+(?::[^/@]*)?@[^/:]+:(?!//)")


def repository_name(project: Project, origin: str | None) -> str:
    """The configured name, else the last part of the origin URL, else the directory's name."""
    from_origin = "" if origin is None else re.split(r"[/:]", origin.rstrip("/"))[-1].removesuffix(".git")
    return project.repository.name or from_origin or project.root.name


def without_credentials(url: str) -> str:
    """
    *url* without user, password and query, so that it may stand in a tag or a label.

    >>> without_credentials("https://me:s3cret@example.org/team/repo.git?token=1")
    'https://example.org/team/repo.git'
    >>> without_credentials("git@example.org:team/repo.git")
    'git@example.org:team/repo.git'
    """
    if "://" not in url:
        found = _SCP_FORM.match(url)
        user = found.group().split("@", 1)[0] if found else ""
        return url if ":" not in user else f"{user.split(':', 1)[0]}@{url.split('@', 1)[1]}"
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
