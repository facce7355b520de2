"""The HTTP client that a server uses for the hub, and a directory that replaces the hub."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import httpx

from mendel.errors import (
    ArtifactNotFound,
    Conflict,
    DigestMismatch,
    HubUnavailable,
    InvalidInput,
    ModelNotFound,
    NotFound,
    SegmentCorrupt,
    Unauthenticated,
)
from mendel.predictions import SealedSegment
from mendel.values import DesiredState, Digest, ServerReport, from_json, to_json
from mendel.values.directory_trees import tree_digest, unpack_tree

_CONNECT_S: Final = 3.0
_ANSWER_S: Final = 30.0


class DesiredSource(Protocol):
    """The source of the desired state and its artefacts."""

    async def desired(self, *, after: int, wait: timedelta) -> DesiredState | None:
        """
        Wait until the state's revision is above *after*; None if *wait* passed first.

        Raises:
            HubUnavailable: The source does not answer; try again.
        """

    async def fetch(self, digest: Digest, into: Path) -> None:
        """
        Download the artefact *digest* into the new directory *into* and check its digest.

        Raises:
            ArtifactNotFound, DigestMismatch, HubUnavailable: The download failed; *into* must not be used.
        """


class Hub:
    """
    The hub's API for servers; HTTP errors become Mendel's errors only here.

    Args:
        url: The hub's base URL, without ``/api/v1``.
        key: An API key with the scope ``serve``; None for a hub without authentication.
    """

    def __init__(self, url: str, key: str | None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._url = url
        self._http = httpx.AsyncClient(
            base_url=f"{url.rstrip('/')}/api/v1/",
            headers=headers,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def desired(self, *, after: int, wait: timedelta) -> DesiredState | None:
        """Long-poll the hub; see :class:`DesiredSource`."""
        seconds = wait.total_seconds()
        async with self._translated("GET desired"):
            answer = await self._http.get(
                "desired",
                params={"after": after, "wait": seconds},
                timeout=httpx.Timeout(_ANSWER_S + seconds, connect=_CONNECT_S),
            )
            if answer.status_code == httpx.codes.NOT_MODIFIED:
                return None
            _refuse(answer, "the desired state")
            return from_json(answer.content, DesiredState)

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Download, unpack and check an artefact; see :class:`DesiredSource`."""
        async with self._translated(f"GET artifacts/{digest}"):
            with tempfile.TemporaryFile(dir=into.parent) as file:
                async with self._http.stream("GET", f"artifacts/{digest}") as answer:
                    if answer.is_error:
                        await answer.aread()
                    _refuse(answer, f"the artefact {digest}")
                    async for chunk in answer.aiter_bytes():
                        file.write(chunk)
                file.seek(0)
                await asyncio.to_thread(unpack_tree, file, into, expect=digest)

    async def put_segment(self, segment: SealedSegment) -> None:
        """
        Send a sealed segment; sending the same segment again changes nothing.

        Raises:
            Conflict: The hub has another segment with the same spool id and number.
            InvalidInput: The hub will never accept this content.
            SegmentCorrupt: The segment's content is damaged.
            HubUnavailable: The hub does not answer; try again.
        """
        content = await asyncio.to_thread(segment.path.read_bytes)
        async with self._translated("PUT segments"):
            answer = await self._http.put(
                f"segments/{segment.spool_id}/{segment.seq}",
                content=content,
                headers={"X-Checksum": segment.checksum, "Content-Type": "application/octet-stream"},
            )
            _refuse(answer, f"segment {segment.spool_id}/{segment.seq}")

    async def post_report(self, report: ServerReport) -> None:
        """Send a server report; repeated sending of one (server, epoch, seq) changes nothing."""
        async with self._translated("POST reports"):
            answer = await self._http.post(
                f"servers/{report.server}/reports",
                content=to_json(report),
                headers={"Content-Type": "application/json"},
            )
            _refuse(answer, "the report")

    async def statistics(self, query: Mapping[str, str]) -> bytes:
        """Get ``/monitoring/stats`` as JSON."""
        async with self._translated("GET monitoring/stats"):
            answer = await self._http.get("monitoring/stats", params=dict(query))
            _refuse(answer, "statistics", absent=ModelNotFound)
            return answer.content

    @asynccontextmanager
    async def _translated(self, what: str) -> AsyncIterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise HubUnavailable(f"The hub at {self._url} did not answer {what}: {detail}.") from error


class HubStatistics:
    """Forwards queries for ``/monitoring/stats`` to the hub with the caller's own API key."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, query: Mapping[str, str], credential: str | None) -> bytes:
        """Give the hub's response body unchanged."""
        async with Hub(self._url, credential) as hub:
            return await hub.statistics(query)


class Directory:
    """
    A file and a directory that replace the hub, for servers without a hub.

    Args:
        state: A file with a DesiredState in JSON; a newer revision in the file is applied.
        artifacts: A directory with one artefact directory per digest, named by the digest's hex.
        look_every: How often the file is read.
    """

    def __init__(self, state: Path, artifacts: Path, *, look_every: timedelta = timedelta(milliseconds=500)) -> None:
        self._state = state
        self._artifacts = artifacts
        self._look_every = look_every.total_seconds()

    async def desired(self, *, after: int, wait: timedelta) -> DesiredState | None:
        """Give the state in the file once its revision is above *after*; None if *wait* passed first."""
        for _ in range(max(1, round(wait.total_seconds() / self._look_every))):
            try:
                state = from_json(self._state.read_bytes(), DesiredState)
            except OSError as error:
                raise HubUnavailable(
                    f"The file of the desired state, {self._state}, cannot be read: {error.strerror}."
                ) from error
            if state.revision > after:
                return state
            await asyncio.sleep(self._look_every)
        return None

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Copy the artefact *digest* and check its digest."""
        tree = self._artifacts / digest.hex
        if not tree.is_dir():
            raise ArtifactNotFound(f"The artefact {digest} is not in the directory {self._artifacts}.")
        await asyncio.to_thread(shutil.copytree, tree, into)
        found = await asyncio.to_thread(tree_digest, into)
        if found != digest:
            raise DigestMismatch(
                f"The artefact in {tree} has digest {found}, not {digest}.",
                remedy=f"Restore the artefact with digest {digest}.",
            )


def _refuse(answer: httpx.Response, what: str, *, absent: type[NotFound] = ArtifactNotFound) -> None:
    if answer.is_success:
        return
    message = f"The hub answered the request for {what} with status {answer.status_code}: {answer.text[:200]}"
    match answer.status_code:
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
            raise Unauthenticated(message, remedy="Set MENDEL_KEY of the server to an API key with the scope serve.")
        case httpx.codes.NOT_FOUND:
            raise absent(message)
        case httpx.codes.CONFLICT:
            raise Conflict(message)
        case httpx.codes.UNPROCESSABLE_ENTITY:
            raise SegmentCorrupt(message)
        case status if status < httpx.codes.INTERNAL_SERVER_ERROR and status not in _PASSING:
            raise InvalidInput(message)
    raise HubUnavailable(message)


_PASSING: Final = frozenset({httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS})
