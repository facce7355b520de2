"""Parse references to images in registries by docker's rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mendel.errors import InvalidValue
from mendel.values import Digest

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"

_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?")
_LONGEST_PATH = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """
    The name of an image in a registry: ``host[:port]/path[:tag][@digest]``.

    A first part is a host only if it contains a dot or a colon or is ``localhost``. Without a host the registry is
    docker.io, where a name of one part is below ``library/``.

    >>> str(ImageReference.parse("python:3.11-slim"))
    'docker.io/library/python:3.11-slim'
    >>> ImageReference.parse("localhost:5000/risk/credit").selector
    'latest'
    """

    host: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """
        Parse a reference.

        Raises:
            InvalidValue: *text* is not a reference; a URL with scheme or user is not a reference either.
        """
        if "://" in text:
            raise InvalidValue(
                "An image name must not begin with https:// or another scheme.",
                remedy="Write host/name:tag, without https://.",
            )
        rest, at, digest = text.partition("@")
        host, path = _split_host(rest)
        path, colon, tag = path.partition(":")
        if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or len(path) > _LONGEST_PATH:
            raise _not_a_reference(text)
        if colon and not _TAG.fullmatch(tag):
            raise _not_a_reference(text)
        return cls(host=host, path=path, tag=tag or None, digest=Digest(digest) if at else None)

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.host}/{self.path}{tag}{digest}"

    @property
    def selector(self) -> str:
        """The digest if the reference has one, else the tag, else ``latest``."""
        return self.digest or self.tag or DEFAULT_TAG

    def pinned(self, digest: Digest) -> ImageReference:
        """Give the same name with *digest* instead of tag and digest."""
        return replace(self, tag=None, digest=digest)


def is_loopback(host: str) -> bool:
    """Whether *host* (with or without port) is this machine, so that plain HTTP is safe."""
    return _LOOPBACK.fullmatch(host) is not None


def names_host(text: str) -> bool:
    """
    Whether an image name begins with a registry host, by docker's rule.

    >>> names_host("localhost:5000/risk/credit"), names_host("risk/credit")
    (True, False)
    """
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def _split_host(text: str) -> tuple[str, str]:
    if names_host(text):
        host, _, path = text.partition("/")
    else:
        host, path = DEFAULT_HOST, text
    if host in {DEFAULT_HOST, "index.docker.io", "registry-1.docker.io"}:
        return DEFAULT_HOST, path if "/" in path else f"library/{path}"
    return host, path


def _not_a_reference(text: str) -> InvalidValue:
    shown = (
        text if "@" not in text.partition("/")[0] else "The given name (not shown, because it may contain a password)"
    )
    return InvalidValue(
        f"{shown!r} is not a valid image name.", remedy="Write host[:port]/path:tag with a lower-case path."
    )
