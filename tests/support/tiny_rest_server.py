"""A small REST server of the Open Inference Protocol v2 that conforms, until a test changes its answers."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mendel.conformance.tensors import DATATYPES, Tensor, flat, from_raw, is_element, to_raw

LENGTH = "Inference-Header-Content-Length"
MODEL = {
    "name": "m",
    "versions": ["1"],
    "platform": "tiny",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "tag", "datatype": "BYTES", "shape": [-1]},
    ],
    "outputs": [
        {"name": "sum", "datatype": "FP32", "shape": [-1]},
        {"name": "tag", "datatype": "BYTES", "shape": [-1]},
    ],
}
EXTENSIONS = ["binary_tensor_data", "statistics", "model_repository"]


class Refused(Exception):
    """A request gets an error status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Exchange:
    """One request and the answer to it; ``asked`` is the request's JSON, ``content`` is sent as it is, if set."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    asked: Any = None
    status: int = 200
    document: Any = None
    content: bytes | None = None
    sent: dict[str, str] = field(default_factory=dict)

    @property
    def infers(self) -> bool:
        return self.path == "/v2/models/m/infer"


Change = Callable[[Exchange], None]


@dataclass
class TinyRestServer:
    """The state of the server; ``change`` alters each exchange after it was answered rightly."""

    address: str = ""
    change: Change = lambda _: None
    loaded: bool = True
    successes: int = 0

    def answer(self, exchange: Exchange) -> None:
        try:
            self._route(exchange)
        except Refused as refused:
            exchange.status, exchange.document = refused.status, {"error": str(refused)}
        self.change(exchange)

    def _route(self, exchange: Exchange) -> None:
        path = exchange.path.replace("/versions/1", "")
        match exchange.method, path.strip("/").split("/"):
            case "GET", ["v2"]:
                exchange.document = {"name": "tiny", "version": "1.0", "extensions": EXTENSIONS}
            case "GET", ["v2", "health", ("live" | "ready") as what]:
                exchange.document = {what: True}
            case "POST", ["v2", "repository", "index"]:
                exchange.document = [{"name": "m", "version": "1", "state": "READY"}]
            case "POST", ["v2", "repository", "models", "m", ("load" | "unload") as verb]:
                self.loaded = verb == "load"
                exchange.document = {}
            case "GET", ["v2", "models", "m"]:
                exchange.document = MODEL
            case "GET", ["v2", "models", "m", "ready"]:
                exchange.status = 200 if self.loaded else 503
                exchange.document = {"name": "m", "ready": self.loaded}
            case "GET", ["v2", "models", "m", "stats"]:
                counted = {"success": {"count": self.successes, "ns": 0}}
                exchange.document = {"model_stats": [{"name": "m", "version": "1", "inference_stats": counted}]}
            case "POST", ["v2", "models", "m", "infer"]:
                self._infer(exchange)
            case _:
                raise Refused(404, "no such model or path")

    def _infer(self, exchange: Exchange) -> None:
        split = int(exchange.headers.get(LENGTH.lower(), len(exchange.body)))
        try:
            exchange.asked = asked = json.loads(exchange.body[:split])
        except ValueError as error:
            raise Refused(400, "not JSON") from error
        if "inputs" not in asked:
            raise Refused(400, "no inputs")
        x, tags = _inputs(asked["inputs"], exchange.body[split:])
        sums = tuple(x.values[place] + 2 * x.values[place + 1] for place in range(0, len(x.values), 2))
        outputs = (
            Tensor(name="sum", datatype="FP32", shape=(len(sums),), values=sums),
            Tensor(name="tag", datatype="BYTES", shape=tags.shape, values=tags.values),
        )
        self.successes += 1
        wanted = [one["name"] for one in asked.get("outputs", ())] or ["sum", "tag"]
        exchange.document = {"model_name": "m", "model_version": "1", "outputs": []}
        if "id" in asked:
            exchange.document["id"] = asked["id"]
        binary = asked.get("parameters", {}).get("binary_data_output", False)
        _write(exchange, [one for one in outputs if one.name in wanted], binary=binary)


def _inputs(asked: list[dict[str, Any]], raw: bytes) -> tuple[Tensor, Tensor]:
    tensors = {}
    for one in asked:
        name, datatype, shape = one["name"], one["datatype"], one["shape"]
        if datatype not in DATATYPES:
            raise Refused(400, "unknown datatype")
        size = one.get("parameters", {}).get("binary_data_size")
        if size is not None:
            tensors[name], raw = from_raw(raw[:size], name, datatype, shape), raw[size:]
            continue
        values = tuple(flat(one["data"]))
        if len(values) != math.prod(shape):
            raise Refused(400, "wrong shape")
        if not all(is_element(value, datatype) for value in values):
            raise Refused(400, "wrong element")
        tensors[name] = Tensor(name=name, datatype=datatype, shape=tuple(shape), values=values)
    if tensors.keys() != {"x", "tag"}:
        raise Refused(400, "other inputs")
    return tensors["x"], tensors["tag"]


def _write(exchange: Exchange, outputs: list[Tensor], *, binary: bool) -> None:
    raws = []
    for one in outputs:
        written = {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
        texts = [value.decode() if isinstance(value, bytes) else value for value in one.values]
        if binary:
            raws.append(to_raw(one))
            written["parameters"] = {"binary_data_size": len(raws[-1])}
        exchange.document["outputs"].append(written if binary else written | {"data": texts})
    if binary:
        head = json.dumps(exchange.document).encode()
        exchange.content = head + b"".join(raws)
        exchange.sent[LENGTH] = str(len(head))


@contextmanager
def tiny_rest_server() -> Iterator[TinyRestServer]:
    """Run the server in threads of this process."""
    tiny = TinyRestServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            exchange = Exchange(self.command, self.path, headers, body)
            tiny.answer(exchange)
            content = json.dumps(exchange.document).encode() if exchange.content is None else exchange.content
            self.send_response(exchange.status)
            for name, value in {"Content-Length": str(len(content)), **exchange.sent}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    tiny.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield tiny
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
