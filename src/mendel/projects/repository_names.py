"""The name of a git repository, and its URL without credentials."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from mendel.projects.entities import Project

_SHARED = re.compile(r"(?:git\+)?(?:https?|ssh|git)://|(?:[^/:]+@)?[^/:]{2,}:(?!//)")
_SCP_FORM = re.compile(r"[^/@:]+(?::[^/@]*)?@[^/:]+:(?!//)")


def repository_name(project: Project, origin: str | None) -> str:
    """Give the configured name, else the last part of the origin's URL, else the name of the project's directory."""
    return project.repository.name or (name_in_origin(origin) if origin else "") or project.root.name


def name_in_origin(origin: str) -> str:
    """
    Give the last part of the URL *origin* without ``.git``.

    >>> name_in_origin("git@example.org:models.git"), name_in_origin("https://example.org/team/models/")
    ('models', 'models')
    """
    return re.split(r"[/:]", origin.rstrip("/"))[-1].removesuffix(".git")


def without_credentials(url: str) -> str:
    """
    Remove user, password and query from *url*, so that a tag or label may contain it.

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


def shared_url(url: str | None) -> str | None:
    """
    Give *url* without credentials; None for no URL and for a path of this machine, which nobody else can reach.

    >>> shared_url("https://t0ken@example.org/tool.git"), shared_url("/home/me/tool"), shared_url("file:///home/me/tool")
    ('https://example.org/tool.git', None, None)
    """
    if not url or not _SHARED.match(url):
        return None
    return without_credentials(url)


def holds_credentials(url: str) -> bool:
    """
    Tell whether *url* contains a password, or a user name outside SSH, which may be an access token.

    >>> holds_credentials("https://t0ken@example.org/tool.git"), holds_credentials("ssh://git@example.org/tool.git")
    (True, False)
    """
    if "://" not in url:
        return without_credentials(url) != url
    parts = urlsplit(url)
    return "@" in parts.netloc and (parts.password is not None or not parts.scheme.endswith("ssh"))
