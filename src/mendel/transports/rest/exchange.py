"""One request of a fast connection with its answer, from its headers until the answer is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from mendel.transports.rest.http_messages import Request, Response, too_large
from mendel.transports.rest.prediction_endpoint import Encode, PredictionEndpoint
from mendel.transports.rest.wire_format import CLOSE, END, head_of

_SMALL_PART: Final = 1024
"""Smaller parts of a body are joined at once, because the object of each would cost more memory than its bytes."""


class AnsweringConnection(Protocol):
    """The connection of an exchange, as those see it who answer."""

    @property
    def gone(self) -> bool:
        """True once the connection is closed."""

    def write_answers(self) -> None:
        """Write the answers that are complete, in the order of their requests."""


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange(Request):
    """
    One request and its answer.

    Attributes:
        keep_alive: False when the connection closes behind the answer.
        expects: True when the caller waits for ``100 Continue`` before it sends the body.
        counted: False for a preflight request, which is not counted and has no correlation id.
        refusal: The answer that is known before the endpoint is called; None if the endpoint answers.
        ready: True when the request can be answered: its body is here, or is not needed.
        begun: True when the answer is being made.
        admitted: True when route and key were checked before the whole body was here.
        prediction: The endpoint, if the request is a prediction that can be decoded together with others; else None.
        parts: The parts of the body that are here; empty once the body is not needed any more.
        encode: Makes the response of the kernel's answer; set with the call.
    """

    connection: AnsweringConnection
    keep_alive: bool = True
    expects: bool = False
    counted: bool = True
    refusal: Response | None = None
    ready: bool = False
    begun: bool = False
    admitted: bool = False
    prediction: PredictionEndpoint | None = None
    parts: list[bytes | bytearray] = field(default_factory=list)
    size_bytes: int = 0
    encode: Encode | None = None
    _head: bytes | None = None
    _content: bytes = b""

    @property
    def gone(self) -> bool:
        """True once the connection is closed."""
        return self.connection.gone

    @property
    def alone(self) -> bool:
        """Whether no request before and behind it may be answered meanwhile: it may change what they see."""
        return self.refusal is None and self.prediction is None

    @property
    def answered(self) -> bool:
        """Whether the answer is complete."""
        return self._head is not None

    def refuse(self, response: Response) -> None:
        """Let *response* be the answer; the rest of the body is not needed."""
        self.refusal, self.ready = response, True
        self.drop_body()

    def finish(self, response: Response) -> None:
        """Let the answer be *response*."""
        self._head = head_of(response, self.correlation_id if self.counted else "")
        self._content = b"" if self.method == "HEAD" else response.body
        self.drop_body()

    def written(self, *, closing: bool) -> bytes:
        """Give the answer as bytes; *closing* says so to the caller."""
        assert self._head is not None  # noqa: S101 - only what is answered is written
        return b"%b%b%b" % (self._head, CLOSE if closing else END, self._content)

    def keep(self, part: bytes) -> None:
        """Keep the next *part* of the body."""
        self.size_bytes += len(part)
        if not self.parts or len(part) >= _SMALL_PART:
            self.parts.append(part)
        elif isinstance(last := self.parts[-1], bytearray):
            last += part
        else:
            self.parts.append(bytearray(part))

    def drop_body(self) -> None:
        """Forget the body."""
        self.parts = []
        self.release_body()

    def check_size(self, limit: int) -> None:
        """
        Count the part of the body that is here.

        Raises:
            TooLarge: The body has more than *limit* bytes.
            Overloaded: The bodies of too many requests are in memory.
        """
        if self.size_bytes > limit:
            raise too_large(limit)
        self.hold_body(self.size_bytes)

    def whole_body(self, limit: int) -> bytes:
        """
        Give the body as the caller sent it.

        Raises:
            TooLarge: The body has more than *limit* bytes.
        """
        if self.size_bytes > limit:
            raise too_large(limit)
        return bytes(self.parts[0]) if len(self.parts) == 1 else b"".join(self.parts)

    async def _received(self, limit: int) -> bytes:
        return self.whole_body(limit)
