"""Upload one blob to a registry: mount, single request or chunks, and resume after a broken connection."""

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
"""Statuses after which the upload starts again: the registry forgot the upload or stores another part of the blob."""

_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """
    How the blob reached the registry: *sent_bytes* sent (0 if the registry had the blob), or mounted from a repository.
    """

    sent_bytes: int = 0
    mounted: bool = False


class Upload:
    """
    Uploads one blob to one repository.

    Args:
        siblings: Repositories of the same registry that may contain the blob, to mount the blob instead of sending it.
        on_sent: Called after every piece with the bytes that the registry has; smaller after a restarted transfer.
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
        Upload the blob unless the registry has it.

        Raises:
            RegistryUnavailable: The upload failed too often.
            Unauthenticated, Forbidden, TooLarge, Unsupported: The registry refuses the upload.
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
        """
        Try to mount the blob from each sibling repository; False if none has it (the registry may then begin an
        upload).
        """
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
            except (Denied, Unsupported):  # no read access to the sibling repository: the blob is sent
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
        """
        Ask how many bytes arrived before the connection broke; if the registry cannot tell, start the upload again.
        """
        answer = self._ask("GET", self._where(), accept=frozenset({_NO_CONTENT, _OK, *_LOST}))
        arrived = _RANGE.fullmatch(answer.headers.get("range", ""))
        if answer.status in _LOST or arrived is None or int(arrived[1]) >= self._blob.size:
            self._location, self._offset = None, 0
            return
        self._went_to(answer)
        self._offset = int(arrived[1]) + 1 if int(arrived[1]) else 0  # 0-0 also means that nothing was written
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
            raise Unsupported(f"The registry {self._session.host} accepted an upload but gave no upload address.")
        return self._location

    def _lost(self, answer: Answer) -> TransientError:
        self._location, self._offset = None, 0
        blob = f"blob {self._blob.digest} (status {answer.status})"
        message = f"The registry {self._session.host} aborted the upload of {blob}."
        return TransientError(RegistryUnavailable(message, remedy="Try again."))
