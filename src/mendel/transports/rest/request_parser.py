"""Parse the requests of one connection with httptools, within the limits of the connection."""

from __future__ import annotations

from collections import deque
from typing import Final, NoReturn

import httptools

from mendel.transports.rest.connection_limits import HEADER_OVERHEAD, MALFORMED
from mendel.transports.rest.connection_server import ReadingConnection
from mendel.transports.rest.exchange import Exchange
from mendel.transports.rest.http_messages import SINGLE, Response, path_of

_PIECE_BYTES: Final = 4096
"""So many bytes are parsed at once, because the parser cannot be stopped in between; of a body, all its bytes."""
_OF_UPGRADE: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})


class _Ended(Exception):
    """Stops httptools behind the last request of a connection."""


class RequestParser:
    """
    Turns the bytes of one connection into exchanges, which enter *pipeline* when their headers are complete.

    Attributes:
        in_head: True while the headers of a request arrive.
        arriving: The exchange whose body arrives; None between requests and in headers.
        ended: True behind the last request: what follows is not parsed.
        padded: True when the chunks of a body have too many bytes that are no body; the connection must be cut.
        refusing: True when the rest of what the caller sends is not read, because something in it was refused.
    """

    __slots__ = (
        *("_connection", "_pipeline", "_limits", "_parser", "in_head", "arriving", "ended", "padded", "refusing"),
        *("_url", "_headers", "_repeated", "_doubled", "_upgrade_of", "_header_bytes", "_piece_bytes"),
        *("_received_bytes", "_body_bytes", "_announced_bytes", "_most_header_bytes"),
    )

    def __init__(self, connection: ReadingConnection, pipeline: deque[Exchange]) -> None:
        self._connection, self._pipeline = connection, pipeline
        self._limits = connection.server.limits
        self._most_header_bytes = self._limits.header_bytes
        self.in_head = self.ended = self.padded = self.refusing = False
        self.arriving: Exchange | None = None
        self._url, self._header_bytes = b"", 0
        self._headers: dict[bytes, bytes] = {}
        self._repeated: str | None = None
        self._doubled = False
        self._upgrade_of: bytes | None = None
        self._piece_bytes = self._received_bytes = self._body_bytes = self._announced_bytes = 0
        self._parser = httptools.HttpRequestParser(self)

    @property
    def next_bytes(self) -> int:
        """How many bytes may be fed at once: those that a body still needs, or so few that they hold few requests."""
        left = 0 if self.arriving is None else self._announced_bytes - self._body_bytes
        return max(_PIECE_BYTES, left)

    def feed(self, piece: bytes | memoryview) -> None:
        """Parse *piece*; an error of HTTP becomes an exchange that refuses it."""
        self._piece_bytes = len(piece)
        self._received_bytes += len(piece)
        while piece:
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as stopped:
                piece = self._stay(bytes(piece[stopped.args[0] :]))
                continue
            except httptools.HttpParserError:
                if not self.ended:
                    self.end(MALFORMED)
            break
        if self.ended:
            return
        if self.in_head and self._received_bytes > self._limits.header_bytes:
            self.end(self._limits.large_headers)
        elif self.arriving is not None:
            self.padded = self._limits.is_padded(received_bytes=self._received_bytes, body_bytes=self._body_bytes)

    def end(self, response: Response) -> None:
        """Refuse what arrives with *response*, unless its answer has begun, and parse no more."""
        exchange, self.arriving = self.arriving, None
        self.in_head, self.ended, self.refusing = False, True, True
        if exchange is None:
            exchange = self._exchange("", "", b"")
            self._pipeline.append(exchange)
        exchange.keep_alive = False
        if exchange.refusal is None and not exchange.begun:
            exchange.refuse(response)

    def refuse_rest(self) -> None:
        """Parse no more, because the rest of what the caller sends is not read."""
        self.stop()
        self.refusing = True

    def stop(self) -> None:
        """Parse no more, and forget what arrives."""
        self.ended, self.in_head, self.arriving = True, False, None

    def close(self) -> None:
        """Stop for ever: let go of httptools and of the connection, which refer to this parser."""
        self.stop()
        del self._parser, self._connection

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url, self._headers, self._header_bytes = b"", {}, 0
        self._repeated, self._doubled = None, False
        self.in_head, self._received_bytes = True, self._piece_bytes
        self._connection.hear()

    def on_url(self, url: bytes) -> None:
        """Keep a part of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the trailers of a body are none."""
        if self.arriving is not None:
            return
        name, value = name.lower(), value.rstrip(b" \t")
        if name in self._headers:
            self._doubled = True
            if name in SINGLE and self._repeated is None:
                self._repeated = name.decode("latin-1")
        self._headers[name] = value
        self._header_bytes += len(name) + len(value) + HEADER_OVERHEAD
        if self._header_bytes > self._most_header_bytes:
            self._end_here(self._limits.large_headers)

    def on_headers_complete(self) -> None:
        """Let the request enter the pipeline."""
        self.in_head, self._received_bytes, self._body_bytes = False, self._piece_bytes, 0
        method = self._parser.get_method()
        if self._parser.should_upgrade() and method != b"CONNECT" and self._parser.get_http_version() == "1.1":
            self._upgrade_of = method
            return
        if self._header_bytes + len(self._url) > self._most_header_bytes:
            self._end_here(self._limits.large_headers)
        if b"host" not in self._headers and self._parser.get_http_version() == "1.1":
            self._end_here(MALFORMED)
        exchange = self._exchange(method.decode("ascii"), *_target(self._url))
        self._pipeline.append(exchange)
        self._announced_bytes = int(self._headers.get(b"content-length", b"0"))
        self._connection.server.prepare(exchange)
        self.arriving = exchange

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, unless the request is answered without it."""
        self._body_bytes += len(body)
        if self.arriving is not None and not self.arriving.ready:
            self._connection.keep(self.arriving, body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        exchange, self.arriving = self.arriving, None
        self._piece_bytes = self._received_bytes = 0  # how much of the next request this piece has is not known
        if exchange is not None:
            exchange.ready = True
            if not exchange.keep_alive:
                self.ended = True
                raise _Ended

    def _end_here(self, response: Response) -> NoReturn:
        self.end(response)
        raise _Ended

    def _stay(self, rest: bytes) -> bytes:
        """
        Give a request that asks for another protocol once more, with the bytes behind it, as if it did not ask.

        httptools takes what follows such headers for the other protocol, so that the body would be lost; curl and Java
        ask for HTTP/2 in this way.
        """
        method, self._upgrade_of = self._upgrade_of, None
        if method is None:
            self.ended = True
            return b""
        if self._doubled:
            self.end(MALFORMED)
            return b""
        kept = {name: value for name, value in self._headers.items() if name not in _OF_UPGRADE}
        if b"close" in self._headers.get(b"connection", b"").lower():
            kept[b"connection"] = b"close"
        lines = [b"%b: %b" % header for header in kept.items()]
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([b"%b %b HTTP/1.1" % (method, self._url), *lines, b"", rest])

    def _exchange(self, method: str, path: str, query: bytes) -> Exchange:
        application = self._connection.server.application
        headers = self._headers if method else {}
        return Exchange(
            method=method,
            path=path,
            headers=headers,
            bodies=application.bodies,
            began=application.kernel.steady(),
            query_string=query,
            repeated=self._repeated if method else None,
            connection=self._connection,
            keep_alive=self._keeps_alive() if method else False,
            expects=headers.get(b"expect", b"").lower() == b"100-continue" and self._parser.get_http_version() != "1.0",
        )

    def _keeps_alive(self) -> bool:
        """Whether the connection goes on behind this request; never with HTTP/1.0 or another protocol."""
        if not self._parser.should_keep_alive() or self._parser.should_upgrade():
            return False
        return b"connection" not in self._headers or self._parser.get_http_version() != "1.0"


def _target(url: bytes) -> tuple[str, bytes]:
    """
    Give path and query of a request's target; an error, which httptools reports as a malformed request, if it has none.

    >>> _target(b"/v2/models/a%20b/infer?x=1"), _target(b"/health")
    (('/v2/models/a b/infer', b'x=1'), ('/health', b''))
    """
    if url[:1] == b"/" and b"?" not in url and b"%" not in url and b"#" not in url:
        return url.decode("ascii"), b""
    parsed = httptools.parse_url(url)
    return path_of(parsed.path), parsed.query or b""
