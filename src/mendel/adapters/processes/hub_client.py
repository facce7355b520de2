"""The hub as a server sees it, over HTTP; and a directory in its place."""

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
    """Where the desired state and its artefacts come from."""

    async def desired(self, *, after: int, wait: timedelta) -> DesiredState | None:
        """
        The state, as soon as its revision is above *after*; None when *wait* passed without.

        Raises:
            HubUnavailable: It does not answer; try again.
        """

    async def fetch(self, digest: Digest, into: Path) -> None:
        """
        Write the tree *digest* below *into*, which is made, and check it.

        Raises:
            ArtifactNotFound, DigestMismatch, HubUnavailable: *into* is not to be used.
        """


class Hub:
    """
    The hub's API for servers. Errors of HTTP become Mendel's here and nowhere else.

    Args:
        url: Of the hub, without ``/api/v1``.
        key: An API key with the scopes ``read`` and ``label``; None sends none.
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
        """Long-poll; see :class:`DesiredSource`."""
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
        """Download, unpack and check; see :class:`DesiredSource`."""
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
        Send a sealed segment; sending it again changes nothing.

        Raises:
            Conflict: The hub has other content under that number.
            InvalidInput: It refuses this content for good.
            SegmentCorrupt: The content is damaged.
            HubUnavailable: Try again.
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
        """Send a report; idempotent by (server, epoch, seq)."""
        async with self._translated("POST reports"):
            answer = await self._http.post(
                f"servers/{report.server}/reports",
                content=to_json(report),
                headers={"Content-Type": "application/json"},
            )
            _refuse(answer, "the report")

    async def statistics(self, query: Mapping[str, str]) -> bytes:
        """``/monitoring/stats`` as JSON."""
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
            raise HubUnavailable(f"The hub at {self._url} does not answer {what}: {detail}.") from error


class HubStatistics:
    """Asks the hub for ``/monitoring/stats`` on behalf of a server's caller, with the caller's own key."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, query: Mapping[str, str], credential: str | None) -> bytes:
        """The hub's answer, as it came."""
        async with Hub(self._url, credential) as hub:
            return await hub.statistics(query)


class Directory:
    """
    A file and a directory in place of a hub, for servers that have none.

    Args:
        state: A file holding a DesiredState in JSON; a newer revision in it is taken up.
        artifacts: Holds one tree per digest, named by its hex.
        look_every: How often the file is looked at.
    """

    def __init__(self, state: Path, artifacts: Path, *, look_every: timedelta = timedelta(milliseconds=500)) -> None:
        self._state = state
        self._artifacts = artifacts
        self._look_every = look_every.total_seconds()

    async def desired(self, *, after: int, wait: timedelta) -> DesiredState | None:
        """What the file says, once its revision is above *after*."""
        for _ in range(max(1, round(wait.total_seconds() / self._look_every))):
            try:
                state = from_json(self._state.read_bytes(), DesiredState)
            except OSError as error:
                raise HubUnavailable(f"{self._state} cannot be read: {error.strerror}.") from error
            if state.revision > after:
                return state
            await asyncio.sleep(self._look_every)
        return None

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Copy the tree and check it."""
        tree = self._artifacts / digest.hex
        if not tree.is_dir():
            raise ArtifactNotFound(f"There is no artefact {digest} in {self._artifacts}.")
        await asyncio.to_thread(shutil.copytree, tree, into)
        found = await asyncio.to_thread(tree_digest, into)
        if found != digest:
            raise DigestMismatch(
                f"The artefact in {tree} has digest {found}.", remedy=f"Restore the artefact with digest {digest}."
            )


def _refuse(answer: httpx.Response, what: str, *, absent: type[NotFound] = ArtifactNotFound) -> None:
    if answer.is_success:
        return
    message = f"The hub answered {answer.status_code} for {what}: {answer.text[:200]}"
    match answer.status_code:
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
            raise Unauthenticated(message, remedy="Give the server a key with the scopes read and label.")
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
