"""Limit what one HTTP connection, and all connections together, may take: header bytes, time, and their number."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from mendel.serving import ServingPolicy
from mendel.transports.rest.http_messages import Response, json_response

SWEEP_EVERY_S: Final = 1.0
"""How often each connection is looked at for what takes too long."""

FIRST_REQUEST_S: Final = 0.2
"""How long a server that closes still reads from idle connections: their first request may be in transit."""

_FRAMING: Final = 8
"""No chunked body needs more bytes per byte of content: a chunk of one byte has six bytes with its length."""

HEADER_OVERHEAD: Final = 32
"""What each header counts besides its name and value, as in RFC 9113, 6.5.2: empty headers take memory too."""

MALFORMED: Final = json_response({"error": "The request is not valid HTTP/1.1."}, status=400)
"""The answer to bytes that are no request; the connection is closed behind it."""

FULL: Final = json_response(
    {"error": "The server has too many connections."}, status=503, headers=((b"retry-after", b"1"),)
)
"""The answer to a connection beyond the limit, which is closed."""


class Idling(Protocol):
    """A connection that may have no request."""

    @property
    def idle_since(self) -> float | None:
        """The second of the loop's clock since which the connection has no request; None while it has one."""


C = TypeVar("C", bound=Idling)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of the connections of one worker; times in seconds. The attributes are those of ServingPolicy."""

    header_bytes: int
    header_timeout: float
    body_timeout: float
    idle_timeout: float
    max_connections: int

    @classmethod
    def of(cls, policy: ServingPolicy) -> ConnectionLimits:
        """Take the limits from the server's *policy*, which is already divided among the workers."""
        return cls(
            header_bytes=policy.header_bytes,
            header_timeout=policy.header_timeout.total_seconds(),
            body_timeout=policy.body_timeout.total_seconds(),
            idle_timeout=policy.idle_timeout.total_seconds(),
            max_connections=policy.max_connections,
        )

    @property
    def large_headers(self) -> Response:
        """The answer to headers that are too large."""
        text = f"The headers of the request have more than {self.header_bytes} bytes."
        return json_response({"error": text}, status=431)

    @property
    def slow_headers(self) -> Response:
        """The answer to headers that take too long."""
        text = f"The headers of the request did not arrive within {self.header_timeout:g} s."
        return json_response({"error": text}, status=408)

    def is_padded(self, *, received_bytes: int, body_bytes: int) -> bool:
        """Whether *body_bytes* of a chunked body took more bytes than chunks need: endless lengths or trailers."""
        return received_bytes > 2 * self.header_bytes + _FRAMING * body_bytes

    def evicted(self, connections: Iterable[C]) -> list[C]:
        """Choose the connections to close for new ones: those idle for the longest time, several as this is slow."""
        idle = [(one.idle_since, id(one), one) for one in connections if one.idle_since is not None]
        return [one for _, _, one in heapq.nsmallest(1 + self.max_connections // 20, idle)]
