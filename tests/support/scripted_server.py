"""Servers that answer what a test tells them, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zmq

METADATA = {
    "inputs": [{"name": name, "datatype": "FP64", "shape": [-1]} for name in "ab"],
    "outputs": [{"name": "predict", "datatype": "FP64", "shape": [-1]}],
}


def answer(*values: Any, **more: Any) -> dict[str, Any]:
    """A v2 answer with one output."""
    return {"outputs": [{"name": "predict", "datatype": "FP64", "shape": [len(values)], "data": list(values)} | more]}


class ScriptedServer:
    """
    A v2 server whose answers a test sets.

    ``routes`` gives status, headers and body by path; it does not answer the paths in ``silent``,
    and answers those in ``trickles`` byte by byte. A header of None is not sent.
    """

    def __init__(self) -> None:
        self.routes: dict[str, tuple[int, dict[str, str | None], Any]] = {
            "/v2": (200, {}, {"extensions": []}),
            "/v2/models/m": (200, {}, METADATA),
            "/v2/models/m/ready": (200, {}, {"ready": True}),
            "/v2/models/m/infer": (200, {}, answer(1.0, 2.0)),
        }
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.silent: set[str] = set()
        self.trickles: set[str] = set()
        self.talk = threading.Event()
        self._open: list[socket.socket] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                outer.reply(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # clients may close connections
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def connections(self) -> int:
        """The number of connections over which requests came."""
        return len(set(self._open))

    def answers(self, body: Any, status: int = 200, path: str = "/v2/models/m/infer", **headers: str | None) -> None:
        """Set the answer to a route; bytes are sent as they are."""
        self.routes[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        self._open.append(handler.connection)
        self.seen.append((handler.path, dict(handler.headers.items()), body))
        if handler.path in self.silent:
            self.talk.wait(30)
            handler.close_connection = True
            return
        status, headers, document = self.routes.get(handler.path, (404, {}, {"error": "nothing here"}))
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        handler.send_response(status)
        for name, value in {
            "content-length": str(len(content) + 1000 * (handler.path in self.trickles)),
            **headers,
        }.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        while handler.path in self.trickles and not self.talk.wait(0.05):
            handler.wfile.write(b" ")
        handler.wfile.write(content)
        handler.close_connection = "content-length" in headers

    def fall_silent(self) -> None:
        """Accept connections and answer nothing, like a stopped process."""
        self.silent.update(self.routes)

    def stop(self) -> None:
        self.talk.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class ScriptedZmqServer:
    """A server of Mendel's ZMQ messages; ``replies`` gives type and data of the reply to each type of message."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[str, dict[str, Any]]] = {
            "discovery": ("worker_info", {"capabilities": {"models": ["m"]}}),
            "heartbeat": ("heartbeat_ack", {"status": "ready"}),
            "inference_request": ("inference_response", {"predictions": [1.0, 2.0]}),
        }
        self._stopped = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self.address = f"zmq://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._socket.close()
        self._context.term()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            if self._socket.poll(20):
                client, *_, frame = self._socket.recv_multipart()
                asked = json.loads(frame)
                kind, data = self.replies[asked["type"]]
                reply = {"type": kind, "message_id": asked["request_id"], "data": data}
                self._socket.send_multipart([client, json.dumps(reply).encode()])
