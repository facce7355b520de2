"""Check from outside a container whether its server is ready."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from mendel.errors import PortInUse

_ANSWER_SECONDS = 2.0


def is_ready(url: str, model: str = "") -> bool:
    """
    Tell whether the server at *url* says that *model* is ready; without a model, that the server is.

    A server is ready also when its models cannot be loaded.
    """
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ANSWER_SECONDS)
    with closing(connection):
        try:
            connection.request("GET", f"/v2/models/{quote(model)}/ready" if model else "/health")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def require_free(address: str, port: int) -> None:
    """
    Check that no program listens on the port, since its answers would be taken for the container's.

    Raises:
        PortInUse: Another program listens on the port, or this user may not open it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise PortInUse(
                f"The port {port} of {address or 'this machine'} cannot be opened: {error.strerror}.",
                remedy="Choose another port with --port.",
            ) from error
