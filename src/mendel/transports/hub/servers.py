"""What servers call: desired state, artefacts, segments, reports."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from mendel.errors import InvalidValue
from mendel.transports.hub.access import Labeller, Reader
from mendel.transports.hub.answers import NounResponse, bounded_body
from mendel.transports.hub.parts import HubParts
from mendel.values import Digest, ServerReport, from_json
from mendel.values.directory_trees import pack_tree

MAX_SEGMENT_BYTES = 512 << 20
MAX_REPORT_BYTES = 16 << 20
MAX_WAIT_S = 60.0
_POLL_S = 0.05
_CHUNK_BYTES = 1 << 20


def server_routes(parts: HubParts) -> APIRouter:
    """The routes of the data plane."""
    routes = APIRouter(tags=["servers"])

    @routes.get("/desired")
    async def desired(
        _: Reader,
        after: Annotated[int, Query(ge=-1)] = -1,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0,
    ) -> Response:
        """Answer as soon as the revision is above *after*; 304 when *wait* seconds passed without."""
        if not await _wait_until(lambda: parts.registry.lifecycle.revision() > after, wait, parts.stopping):
            return Response(status_code=304)
        return NounResponse(await run_in_threadpool(parts.registry.lifecycle.desired_state))

    @routes.get("/artifacts/{digest}")
    def artifact(_: Reader, digest: str) -> StreamingResponse:
        """The served tree of a version, as a tar."""
        tree = parts.registry.versions.tree_by_digest(Digest(digest))
        return StreamingResponse(_packed(tree), media_type="application/x-tar")

    @routes.put("/segments/{spool_id}/{seq}", status_code=204)
    async def segment(
        request: Request, _: Labeller, spool_id: str, seq: int, x_checksum: Annotated[str, Header()]
    ) -> Response:
        """Take a sealed segment; the same again changes nothing."""
        body = await bounded_body(request, MAX_SEGMENT_BYTES)
        await run_in_threadpool(lambda: parts.inbox.put(spool_id, seq, body, Digest(x_checksum)))
        return Response(status_code=204)

    @routes.get("/servers")
    def servers(_: Reader) -> Response:
        """Every server as it last reported."""
        return NounResponse(parts.registry.performance.servers())

    @routes.post("/servers/{server}/reports", status_code=204)
    async def report(request: Request, _: Labeller, server: str) -> Response:
        """Take a server's counters and convergence; idempotent by server, epoch and seq."""
        told = from_json(await bounded_body(request, MAX_REPORT_BYTES), ServerReport)
        if told.server != server:
            raise InvalidValue(f"The report is of server {told.server!r}, not {server!r}.")
        await run_in_threadpool(lambda: parts.registry.performance.record_server_report(told))
        return Response(status_code=204)

    return routes


async def _wait_until(reached: Callable[[], bool], seconds: float, stopping: Callable[[], bool]) -> bool:
    """Waits on the event loop: a waiting server takes no thread from the pool that everyone's requests run in."""
    end = time.monotonic() + seconds
    while not await run_in_threadpool(reached):
        if stopping() or time.monotonic() >= end:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _packed(tree: Path) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as file:
        pack_tree(tree, file, exclude=("data",))
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
