"""What is asked of a registry and what it answers, as values; importing them costs no HTTP library."""

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
"""What the distribution specification lets a manifest weigh."""

Body = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """
    How registries are talked to.

    Attributes:
        ca_bundle: Certificates (PEM) that are trusted on top of the usual ones.
        insecure_hosts: RegistryClients (``host[:port]``) that may be talked to without TLS; this machine always may.
        longest_wait: The longest ``Retry-After`` that is waited for.
        chunk_bytes: Blobs above this size are sent in chunks, so that a drop loses one chunk at most where the registry
            can resume.
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
    One request.

    Attributes:
        url: A path of the registry, or an address it gave.
        scopes: What a token must allow, ``repository:PATH:pull,push``.
        accept: The statuses that the caller understands; the others become errors.
        body: Gives the content anew for every attempt; ``length`` says how much it is.
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
    """An answer with its whole (small) content; names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str


def join(base: str, url: str) -> str:
    """
    The address that *url* means seen from *base*.

    Raises:
        Corrupt: It is none.
    """
    try:
        whole = urljoin(base, url)
        urlsplit(whole)
    except ValueError as error:
        raise Corrupt(f"{urlsplit(base).netloc} gives an address that is none: {error}.") from error
    return whole
