"""One blob on its way into a registry: mounted, sent whole or in chunks, taken up again after a drop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urlsplit

from mendel.adapters.oci.registry.messages import Answer, Body, Call, join
from mendel.adapters.oci.registry.retry_limits import Attempts, TransientError
from mendel.errors import Denied, RegistryUnavailable, Unsupported
from mendel.images.manifests import Descriptor

if TYPE_CHECKING:
    from mendel.adapters.oci.registry.session import RegistrySession

_PIECE_BYTES: Final = 256 << 10
_CREATED: Final = 201
_ACCEPTED: Final = 202
_NO_CONTENT: Final = 204
_OK: Final = 200
_LOST: Final = frozenset({400, 404, 416})
"""An upload that the registry knows no more, or of which it holds another part than we think."""

_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How a blob came to be there: by ``sent_bytes`` of ours (0: it was there already), or from a sibling."""

    sent_bytes: int = 0
    mounted: bool = False


class Upload:
    """
    Brings one blob into one repository.

    Args:
        siblings: Repositories of the same registry that may have it, for a mount instead of a transfer.
        on_sent: Told after every piece how much of the blob is there; may go back when a transfer starts anew.
    """

    def __init__(
        self,
        session: RegistrySession,
        path: str,
        source: Path,
        blob: Descriptor,
        *,
        siblings: Sequence[str] = (),
        on_sent: Callable[[int], None],
    ) -> None:
        self._session = session
        self._path = path
        self._source = source
        self._blob = blob
        self._siblings = tuple(siblings)
        self._on_sent = on_sent
        self._scopes = (f"repository:{path}:pull,push",)
        self._location: str | None = None
        self._offset = 0
        self._in_doubt = False

    def run(self) -> Sent:
        """
        Have the blob there; one that is there is not sent.

        Raises:
            RegistryUnavailable: It broke off too often.
            Unauthenticated, Forbidden, TooLarge, Unsupported: The registry refuses it.
        """
        attempts = Attempts(self._session.retry_limits)
        while True:
            try:
                return self._attempt()
            except TransientError as error:
                self._in_doubt = self._location is not None
                attempts.failed(error, reached=self._offset)

    def _attempt(self) -> Sent:
        if self._exists():
            return Sent(sent_bytes=self._blob.size if self._in_doubt else 0)
        if self._location is not None and self._in_doubt:
            self._ask_how_far()
        if self._location is None:
            if self._mounted():
                return Sent(mounted=True)
            self._begin()
        self._send()
        return Sent(sent_bytes=self._blob.size)

    def _exists(self) -> bool:
        url = f"/v2/{self._path}/blobs/{self._blob.digest}"
        return self._ask("HEAD", url, accept=frozenset({_OK, 404})).status == _OK

    def _mounted(self) -> bool:
        """Ask each sibling's repository for it; a registry that will not answers with an upload begun instead."""
        while self._siblings:
            sibling, *rest = self._siblings
            self._siblings = tuple(rest)
            scopes = (*self._scopes, f"repository:{sibling}:pull")
            query = urlencode({"mount": self._blob.digest, "from": sibling})
            call = Call(
                method="POST",
                url=f"/v2/{self._path}/blobs/uploads/?{query}",
                scopes=scopes,
                accept=frozenset({_CREATED, _ACCEPTED, 404}),
            )
            try:
                answer = self._session.ask_once(call)
            except (Denied, Unsupported):  # it may not be read; then it is sent
                continue
            if answer.status == _CREATED:
                return True
            if answer.status == _ACCEPTED and not self._siblings:
                self._went_to(answer)
        return False

    def _begin(self) -> None:
        if self._location is None:
            url = f"/v2/{self._path}/blobs/uploads/"
            self._went_to(self._ask("POST", url, accept=frozenset({_ACCEPTED})))
        self._offset, self._in_doubt = 0, False

    def _ask_how_far(self) -> None:
        """After a drop: what arrived counts, if the registry can tell; otherwise the transfer starts anew."""
        answer = self._ask("GET", self._where(), accept=frozenset({_NO_CONTENT, _OK, *_LOST}))
        arrived = _RANGE.fullmatch(answer.headers.get("range", ""))
        if answer.status in _LOST or arrived is None or int(arrived[1]) >= self._blob.size:
            self._location, self._offset = None, 0
            return
        self._went_to(answer)
        self._offset = int(arrived[1]) + 1 if int(arrived[1]) else 0  # 0-0 is also how nothing is written
        self._in_doubt = False

    def _send(self) -> None:
        chunk = self._session.settings.chunk_bytes
        while self._blob.size - self._offset > chunk or (0 < self._offset < self._blob.size):
            self._send_chunk(min(chunk, self._blob.size - self._offset))
        rest = self._blob.size - self._offset
        separator = "&" if urlsplit(self._where()).query else "?"
        url = f"{self._where()}{separator}digest={quote(self._blob.digest, safe='')}"
        self._finish(self._put("PUT", url, rest, accept=frozenset({_CREATED, 404, 416})))
        self._on_sent(self._blob.size)

    def _finish(self, answer: Answer) -> None:
        if answer.status != _CREATED:
            raise self._lost(answer)

    def _send_chunk(self, length: int) -> None:
        answer = self._put("PATCH", self._where(), length, accept=frozenset({_ACCEPTED, _NO_CONTENT, 404, 416}))
        if answer.status in _LOST:
            raise self._lost(answer)
        self._went_to(answer)
        self._offset += length

    def _put(self, method: str, url: str, length: int, *, accept: frozenset[int]) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        if method == "PATCH":
            headers["Content-Range"] = f"{self._offset}-{self._offset + length - 1}"
        call = Call(
            method=method,
            url=url,
            scopes=self._scopes,
            accept=accept,
            headers=headers,
            body=self._slice(self._offset, length),
            length=length,
        )
        return self._session.ask_once(call)

    def _slice(self, start: int, length: int) -> Body:
        def read() -> Iterator[bytes]:
            with self._source.open("rb") as file:
                file.seek(start)
                left = length
                while left and (piece := file.read(min(_PIECE_BYTES, left))):
                    self._session.retry_limits.check()
                    yield piece
                    left -= len(piece)
                    self._on_sent(start + length - left)

        return read

    def _ask(self, method: str, url: str, *, accept: frozenset[int]) -> Answer:
        return self._session.ask_once(Call(method=method, url=url, scopes=self._scopes, accept=accept))

    def _went_to(self, answer: Answer) -> None:
        location = answer.headers.get("location")
        if location:
            self._location = join(answer.url, location)

    def _where(self) -> str:
        if self._location is None:
            raise Unsupported(f"{self._session.host} begins an upload without saying where.")
        return self._location

    def _lost(self, answer: Answer) -> TransientError:
        self._location, self._offset = None, 0
        message = f"{self._session.host} lost the upload of {self._blob.digest} ({answer.status})."
        return TransientError(RegistryUnavailable(message, remedy="Try again."))
