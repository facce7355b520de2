"""
Client of an image registry (OCI distribution specification 1.1): manifests, blobs, tags, referrers; checks digests.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from mendel.adapters.oci.registry.blob_upload import Sent, Upload
from mendel.adapters.oci.registry.credentials import Keychain
from mendel.adapters.oci.registry.messages import Answer, Call, RegistrySettings, join
from mendel.adapters.oci.registry.retry_limits import Attempts, RetryLimits, TransientError
from mendel.errors import Corrupt, DigestMismatch, ImageNotFound, InvalidValue, RegistryUnavailable, Unsupported
from mendel.images.manifests import INDEX, INDEXES, MANIFEST, MANIFESTS, Descriptor, digest_of, parse_json
from mendel.values import Digest

if TYPE_CHECKING:
    from mendel.adapters.oci.registry.session import RegistrySession

__all__ = ["Document", "RegistryClient", "RegistryClients", "RegistrySettings"]

_ACCEPT: Final = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
_MAX_LIST_BYTES: Final = 16 << 20
_MOST_PAGES: Final = 1000
_NEXT: Final = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_FOUND: Final = frozenset({200, 404})
_MISSING: Final = 404
_PARTIAL: Final = 206
_CREATED: Final = frozenset({201, 202})


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A manifest or index with its unchanged bytes, whose hash is the digest."""

    content: bytes
    media_type: str
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.content))


class RegistryClient:
    """
    The client of one registry; threads may share it.

    Every method raises RegistryUnavailable, Unauthenticated or Forbidden with the registry's message.
    """

    def __init__(self, session: RegistrySession) -> None:
        self._session = session
        self.host = session.host

    def resolve(self, path: str, selector: str) -> Digest | None:
        """
        Give the digest that a tag or digest currently has in the repository *path*; None if the tag does not exist.
        """
        answer = self._ask("HEAD", f"/v2/{path}/manifests/{selector}", path, accept=_FOUND, headers=_ACCEPT)
        if answer.status == _MISSING:
            return None
        try:
            return Digest(answer.headers.get("docker-content-digest", ""))
        except InvalidValue:  # the registry sends no digest header: hash the content
            return self.document(path, selector).digest

    def document(self, path: str, selector: str) -> Document:
        """
        Download the manifest or index with this tag or digest.

        Raises:
            ImageNotFound: The tag or digest does not exist.
            DigestMismatch: The content does not match the digest.
            TooLarge: The manifest is larger than 4 MiB.
        """
        answer = self._ask("GET", f"/v2/{path}/manifests/{selector}", path, accept=_FOUND, headers=_ACCEPT)
        if answer.status == _MISSING:
            raise ImageNotFound(
                f"The registry {self.host} has no image {path} with tag or digest {selector}.",
                remedy="Check the name and the tag, or push the image first.",
            )
        digest = digest_of(answer.content)
        stated = selector if selector.startswith("sha256:") else answer.headers.get("docker-content-digest", digest)
        if stated.startswith("sha256:") and stated != digest:
            raise DigestMismatch(
                f"The registry {self.host} states digest {stated} for {path}, but its content has digest {digest}."
            )
        media_type = parse_json(answer.content).get("mediaType") or answer.headers.get("content-type", MANIFEST)
        return Document(content=answer.content, media_type=str(media_type).partition(";")[0].strip(), digest=digest)

    def put_document(self, path: str, selector: str, content: bytes, media_type: str) -> bool:
        """
        Upload the manifest under a tag or digest; True if the registry adds the manifest to its subject's referrers
        itself.

        Raises:
            DigestMismatch: The registry reports another digest.
        """
        answer = self._ask(
            "PUT",
            f"/v2/{path}/manifests/{selector}",
            path,
            accept=_CREATED,
            headers={"Content-Type": media_type},
            content=content,
        )
        got = answer.headers.get("docker-content-digest", "")
        if got.startswith("sha256:") and got != digest_of(content):
            raise DigestMismatch(
                f"The registry {self.host} stored {path}:{selector} with digest {got}, but "
                f"{digest_of(content)} was sent."
            )
        return "oci-subject" in answer.headers

    @contextmanager
    def blob(self, path: str, blob: Descriptor) -> Iterator[Iterator[bytes]]:
        """
        Download a blob in pieces, resuming after a broken connection; the caller checks the digest.

        The ``with`` block returns the connection to the pool even if reading stops early. Otherwise the garbage
        collector could close the connection in a thread that holds the pool's locks.

        Raises:
            ImageNotFound: The registry does not have the blob.
            Corrupt: The registry resumes at another position than requested.
        """
        with closing(self._pieces(path, blob)) as pieces:
            yield pieces

    def _pieces(self, path: str, blob: Descriptor) -> Generator[bytes]:
        attempts, received = Attempts(self._session.retry_limits), 0
        while True:
            try:
                with closing(self._blob_from(path, blob, received)) as pieces:
                    for piece in pieces:
                        received += len(piece)
                        yield piece
                if received >= blob.size:
                    return
                message = f"The registry {self.host} sent only {received} of {blob.size} bytes of blob {blob.digest}."
                attempts.failed(TransientError(RegistryUnavailable(message, remedy="Try again.")), reached=received)
            except TransientError as error:
                attempts.failed(error, reached=received)

    def upload(
        self,
        path: str,
        source: Path,
        blob: Descriptor,
        *,
        siblings: Sequence[str] = (),
        on_sent: Callable[[int], None],
    ) -> Sent:
        """
        Upload the blob unless the repository has it; see :class:`~mendel.adapters.oci.registry.blob_upload.Upload`.
        """
        return Upload(self._session, path, source, blob, siblings=siblings, on_sent=on_sent).run()

    def tags(self, path: str) -> tuple[str, ...]:
        """Give every tag of the repository, sorted; empty if the repository does not exist."""
        pages = self._pages(path, f"/v2/{path}/tags/list?n=1000")
        return tuple(sorted({str(tag) for page in pages or () for tag in page.get("tags") or ()}))

    def referrers(self, path: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        """
        Give the documents attached to *digest* from the registry's referrers API; None if the registry has no such API.
        """
        try:
            pages = self._pages(path, f"/v2/{path}/referrers/{digest}")
        except (Corrupt, Unsupported):  # older registries answer 400, 405 or a page of HTML
            return None
        if pages is None or any(page.get("mediaType") != INDEX for page in pages):
            return None
        return tuple(Descriptor.parse(entry) for page in pages for entry in page.get("manifests") or ())

    def _blob_from(self, path: str, blob: Descriptor, offset: int) -> Generator[bytes]:
        call = Call(
            method="GET",
            url=f"/v2/{path}/blobs/{blob.digest}",
            scopes=_scopes(path, "GET"),
            accept=frozenset({200, _PARTIAL, _MISSING}),
            headers={"Range": f"bytes={offset}-"} if offset else {},
        )
        with self._session.stream(call) as response:
            if response.status_code == _MISSING:
                raise ImageNotFound(
                    f"The registry {self.host} has no blob {blob.digest} in {path}.", remedy="Push the image again."
                )
            surplus = offset
            if response.status_code == _PARTIAL:
                surplus = 0
                if not response.headers.get("content-range", "").startswith(f"bytes {offset}-"):
                    raise Corrupt(
                        f"The registry {self.host} sent another part of blob {blob.digest} than the requested part."
                    )
            for piece in response.iter_raw():
                self._session.retry_limits.check()
                if rest := piece[surplus:]:
                    yield rest
                surplus = max(0, surplus - len(piece))

    def _pages(self, path: str, url: str) -> list[dict[str, Any]] | None:
        pages: list[dict[str, Any]] = []
        for _ in range(_MOST_PAGES):
            answer = self._ask("GET", url, path, accept=_FOUND, max_bytes=_MAX_LIST_BYTES)
            if answer.status == _MISSING:
                return None
            pages.append(parse_json(answer.content))
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None:
                return pages
            url = join(answer.url, following[1])
            if urlsplit(url).netloc != urlsplit(answer.url).netloc:
                raise Unsupported(
                    f"The registry {self.host} continues a list on another host, which Mendel does not follow."
                )
        raise Unsupported(f"The registry {self.host} returned a list of more than {_MOST_PAGES} pages.")

    def _ask(
        self,
        method: str,
        url: str,
        path: str,
        *,
        accept: frozenset[int],
        headers: dict[str, str] | None = None,
        content: bytes = b"",
        max_bytes: int | None = None,
    ) -> Answer:
        call = Call(
            method=method,
            url=url,
            scopes=_scopes(path, method),
            accept=accept,
            headers=headers or {},
            body=(lambda: iter((content,))) if content else None,
            length=len(content),
        )
        return self._session.ask(call) if max_bytes is None else self._session.ask(call, max_bytes=max_bytes)


class RegistryClients:
    """Clients of all registries, one session for each registry host; the ``with`` block closes the sessions."""

    def __init__(
        self,
        *,
        keychain: Keychain,
        settings: RegistrySettings,
        sleep: Callable[[float], None],
        rng: random.Random,
    ) -> None:
        self._keychain = keychain
        self._settings = settings
        self.retry_limits = RetryLimits(policy=settings.retry, longest_wait=settings.longest_wait, sleep=sleep, rng=rng)
        self._sessions: dict[str, RegistrySession] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._sessions:
            _, session = self._sessions.popitem()
            session.__exit__(kind, error, trace)

    def at(self, host: str) -> RegistryClient:
        """Give the client of the registry *host*, without connecting."""
        from mendel.adapters.oci.registry.session import RegistrySession  # noqa: PLC0415 - httpx costs who only builds

        with self._lock:
            if host not in self._sessions:
                self._sessions[host] = RegistrySession(
                    host, keychain=self._keychain, settings=self._settings, retry_limits=self.retry_limits
                )
            return RegistryClient(self._sessions[host])


def _scopes(path: str, method: str) -> tuple[str, ...]:
    return (f"repository:{path}:{'pull' if method in {'GET', 'HEAD'} else 'pull,push'}",)
