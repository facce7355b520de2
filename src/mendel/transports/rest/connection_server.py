"""The fast server as its connections see it."""

from __future__ import annotations

from typing import Any, Protocol

from mendel.transports.rest.application import RestApplication
from mendel.transports.rest.connection_limits import ConnectionLimits
from mendel.transports.rest.exchange import AnsweringConnection, Exchange
from mendel.transports.rest.http_messages import Response


class ConnectionServer(Protocol):
    """Holds what connections share, and answers their requests."""

    application: RestApplication
    limits: ConnectionLimits
    body_limit: int
    draining: bool

    def admit(self, connection: Any) -> bool:
        """Take *connection* among the open ones, in the place of idle ones if need be; False if there is no place."""

    def leave(self, connection: Any) -> None:
        """Forget *connection*, which is closed."""

    def prepare(self, exchange: Exchange) -> None:
        """Find the route of *exchange*, whose headers are complete, and its correlation id."""

    def admission(self, exchange: Exchange) -> Response | None:
        """Give the response that refuses *exchange* before its body is here; None if the body is to be read."""

    def begin(self, exchange: Exchange) -> None:
        """Let *exchange* be answered."""


class ReadingConnection(AnsweringConnection, Protocol):
    """A connection as the parser of its requests sees it."""

    server: ConnectionServer

    def hear(self) -> None:
        """Note that a request begins."""

    def keep(self, exchange: Exchange, part: bytes) -> None:
        """Keep a *part* of the body of *exchange*, or refuse a body that is too large."""
