"""Make HTTP routes of operations: authorise the caller, decode the request, run the operation, encode the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mendel.durable import ChangeWatch
from mendel.operations import Call, HubParts, Operation
from mendel.operations.binding import read_request
from mendel.operations.operation import JSON_TYPE
from mendel.transports.hub.access import ANYBODY, authorise
from mendel.transports.hub.bodies import received
from mendel.values import Principal, to_json

_POLL_S = 0.1
_LONGEST_REST = timedelta(seconds=5)
"""The longest time without a look at the database while this hub commits nothing."""
_NOT_MODIFIED = 304


def routes_of(
    operations: Iterable[Operation[Any, Any]], hub: HubParts, *, opener: Principal | None = None
) -> list[Route]:
    """
    Make one route per path, which dispatches to the operations of that path by HTTP method.

    Args:
        opener: See :func:`mendel.transports.hub.access.authorise`.
    """
    by_url: dict[str, dict[str, Operation[Any, Any]]] = {}
    for one in operations:
        by_url.setdefault(one.url, {})[one.method] = one
    return [Route(url, _endpoint(by_method, hub, opener), methods=list(by_method)) for url, by_method in by_url.items()]


def _endpoint(
    by_method: Mapping[str, Operation[Any, Any]], hub: HubParts, opener: Principal | None
) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        operation = by_method["GET" if request.method == "HEAD" else request.method]
        if operation.inline:
            return written(operation, operation.act(Call(hub, ANYBODY), operation.request()))
        caller = await run_in_threadpool(authorise, hub.registry.keys, request, operation.scope, opener=opener)
        async with received(operation, request) as message:
            asked = await run_in_threadpool(read_request, operation, message)
            if operation.ready is not None:
                ready = await _until_ready(operation, hub, asked)
                caller = await run_in_threadpool(authorise, hub.registry.keys, request, operation.scope, opener=opener)
                if not ready:
                    return Response(status_code=_NOT_MODIFIED)
            return written(operation, await run_in_threadpool(operation.act, Call(hub, caller), asked))

    return answer


def written(operation: Operation[Any, Any], found: Any) -> Response:
    """Encode the result *found* of an operation as an HTTP response."""
    status, other = operation.status, operation.alternative
    if other is not None and other.when(found):
        status = other.status
    if operation.response is None or status == _NOT_MODIFIED:
        return Response(status_code=status)
    if operation.media_type == JSON_TYPE:
        return Response(to_json(found), status, media_type=JSON_TYPE)
    if isinstance(found, str):
        return Response(found, status, media_type=operation.media_type)
    return StreamingResponse(found, status, media_type=operation.media_type)


async def _until_ready(operation: Operation[Any, Any], hub: HubParts, asked: Any) -> bool:
    """
    Wait until a long poll can be answered; False after the requested time, or when the hub stops.

    The wait runs on the event loop, so that waiting servers do not occupy threads of the pool for requests.
    """
    assert operation.ready is not None  # noqa: S101 - checked by the caller
    end = time.monotonic() + asked.wait
    watch = ChangeWatch(hub.unit, lambda: timedelta(seconds=time.monotonic()), _LONGEST_REST)
    while not (watch.changed() and await run_in_threadpool(operation.ready, hub, asked)):
        if hub.stopping() or time.monotonic() >= end:
            return False
        await asyncio.sleep(_POLL_S)
    return True
