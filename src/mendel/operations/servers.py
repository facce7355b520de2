"""Operations that servers call: fetch the desired state, upload prediction log segments, and report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from mendel.errors import AlreadyExists, DigestMismatch, InvalidValue, SegmentCorrupt
from mendel.operations.hub_parts import Call, HubParts
from mendel.operations.operation import JSON_TYPE, Alternative, BodyKind, Header, operation
from mendel.operations.requests import Nothing
from mendel.registry import ServerState
from mendel.values import DesiredState, Digest, Scope, ServerReport

MAX_WAIT_S = 60.0
SEGMENT = BodyKind(max_bytes=512 << 20, media_types={"application/octet-stream": None})
REPORT = BodyKind(max_bytes=16 << 20, media_types={JSON_TYPE: None}, tolerant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitDesired:
    """The request for a desired state with a revision above ``after``; the hub waits at most ``wait`` seconds."""

    after: Annotated[int, msgspec.Meta(ge=-1)] = -1
    wait: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_S)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSegment:
    """The upload of a sealed segment of the prediction log; ``checksum`` is the SHA-256 of its bytes."""

    spool_id: str
    seq: int
    checksum: Annotated[Digest, Header("x-checksum")]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PostReport:
    """The report of a server: its counters, and the state of each model on the server."""

    server: str
    body: ServerReport


def _is_newer(hub: HubParts, request: AwaitDesired) -> bool:
    return hub.registry.lifecycle.revision() > request.after


@operation(
    "GET",
    "/desired",
    scope=Scope.SERVE,
    ready=_is_newer,
    alternative=Alternative(status=304, when=lambda found: found is None),
)
def desired(call: Call, request: AwaitDesired) -> DesiredState | None:
    """Wait for a desired state that is newer than a revision, and return it; 304 if none appears in time."""
    return call.hub.registry.lifecycle.desired_state() if _is_newer(call.hub, request) else None


@operation(
    "PUT",
    "/segments/{spool_id}/{seq}",
    scope=Scope.SERVE,
    errors=(AlreadyExists, DigestMismatch, SegmentCorrupt),
    body=SEGMENT,
)
def put_segment(call: Call, request: PutSegment) -> None:
    """Store a sealed segment of the prediction log; uploading the same segment again changes nothing."""
    call.hub.inbox.put(request.spool_id, request.seq, request.body, request.checksum)


@operation("GET", "/servers", scope=Scope.READ)
def servers(call: Call, _: Nothing) -> tuple[ServerState, ...]:
    """List the servers with their last reports."""
    return tuple(server.public for server in call.hub.registry.performance.servers())


@operation("POST", "/servers/{server}/reports", scope=Scope.SERVE, body=REPORT)
def post_report(call: Call, request: PostReport) -> None:
    """Store the report of a server; the same server, epoch and seq are stored once."""
    if request.body.server != request.server:
        raise InvalidValue(f"The report is of server {request.body.server!r}, but the path names {request.server!r}.")
    call.hub.registry.performance.record_server_report(request.body)
