"""Call the control API of a data directory in this process, when no hub runs."""

from __future__ import annotations

import os
from contextlib import ExitStack

import httpx

from mendel.app.directory import DataDirectory
from mendel.app.settings import Settings
from mendel.app.wiring import open_rooms
from mendel.client.asgi_transport import InProcessTransport
from mendel.transports.hub import create_app
from mendel.values import Principal


class DirectoryTransport(httpx.BaseTransport):
    """Answers requests from the data directory; the first change creates a directory that does not exist."""

    def __init__(self, settings: Settings, data: DataDirectory) -> None:
        self._settings = settings
        self._data = data
        self._held = ExitStack()
        self._app: InProcessTransport | None = None

    def open(self) -> InProcessTransport:
        """
        Open the data directory, and create it if absent.

        Raises:
            SchemaTooNew: The directory was written by a newer Mendel.
        """
        if self._app is None:
            rooms = self._held.enter_context(open_rooms(self._settings))
            self._app = InProcessTransport(create_app(rooms.parts(), opener=Principal.local(os.getuid())))
            self._held.callback(self._app.close)
        return self._app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """
        Answer *request*, with the key of the directory unless the request has one.

        Raises:
            DataDirectoryNotFound: The request only reads, and the directory does not exist.
        """
        if self._app is None and request.method == "GET":
            self._data.require()
        app = self.open()
        request.headers.setdefault("authorization", f"Bearer {self._data.secret()}")
        return app.handle_request(request)

    def close(self) -> None:
        """Close the databases."""
        self._held.close()
