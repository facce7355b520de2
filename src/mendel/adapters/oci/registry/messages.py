"""Requests to a registry and its answers as values; this module does not import the HTTP library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

from mendel.errors import Corrupt
from mendel.resilience import RetryPolicy

MAX_DOCUMENT_BYTES: Final = 4 << 20
"""The maximum size of a manifest in bytes, from the distribution specification."""

Body = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """
    Settings for connections to registries.

    Attributes:
        ca_bundle: A PEM file with certificates to trust besides the system's.
        insecure_hosts: Registries (``host[:port]``) that may be used without TLS; registries on this machine always
            may.
        longest_wait: The longest ``Retry-After`` that Mendel waits for.
        chunk_bytes: Larger blobs are sent in chunks of this size, so that a broken connection loses at most one chunk.
    """

    ca_bundle: Path | None = None
    insecure_hosts: tuple[str, ...] = ()
    connect_timeout: timedelta = timedelta(seconds=10)
    timeout: timedelta = timedelta(seconds=60)
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(base=timedelta(milliseconds=200)))
    longest_wait: timedelta = timedelta(seconds=60)
    chunk_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One request to a registry.

    Attributes:
        url: A path of the registry, or a URL that the registry sent.
        scopes: The access rights that the token needs, ``repository:PATH:pull,push``.
        accept: The statuses that the caller handles; every other status raises an error.
        body: Called for every attempt; gives the content, of which ``length`` is the size in bytes.
    """

    method: str
    url: str
    scopes: tuple[str, ...]
    accept: frozenset[int] = frozenset({200})
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response with its whole content (a small one); the names in ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str


def join(base: str, url: str) -> str:
    """
    Resolve *url* relative to *base*.

    Raises:
        Corrupt: *url* is not a valid URL.
    """
    try:
        whole = urljoin(base, url)
        urlsplit(whole)
    except ValueError as error:
        raise Corrupt(f"The registry {urlsplit(base).netloc} sent an invalid address: {error}.") from error
    return whole
