"""What the harness knows of a running server: its doors, its own counts, its processes."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from load_generators import Aim
from process_tree import memory_mb
from prometheus_client.parser import text_string_to_metric_families
from workload import Question

START_S = 90.0
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
GRPC_HEADERS = {"content-type": "application/grpc", "te": "trailers"}
JSON_HEADERS = {"content-type": "application/json"}
Samples = list[tuple[str, Mapping[str, str], float]]
Counted = Callable[[str, Mapping[str, str]], bool]
"""Whether a sample of a server's metrics, given by its name and labels, counts right answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    One way to ask a server for a prediction.

    Attributes:
        door: ``REST`` or ``gRPC``.
        form: ``v2`` for the Open Inference Protocol; ``plain`` for Mendel's plain REST route and ``ModelOps.Infer``.
        headers: The headers or the metadata of each request, in addition to those of the protocol.
        counted: Whether a sample of the server's metrics counts right answers of this route.
    """

    door: str
    port: int
    path: str
    model: str
    form: str = "v2"
    headers: Mapping[str, str] = field(default_factory=dict)
    counted: Counted

    @property
    def aim(self) -> Aim:
        own = GRPC_HEADERS if self.door == "gRPC" else JSON_HEADERS
        return Aim(url=f"http://127.0.0.1:{self.port}{self.path}", headers={**own, **self.headers})

    def body(self, question: Question) -> bytes:
        """The body that h2load and wrk send; over gRPC the message has its prefix of five bytes."""
        if self.door == "REST":
            return question.plain if self.form == "plain" else question.json
        message = self.message(question)
        return b"\0" + len(message).to_bytes(4, "big") + message

    def http_request(self, question: Question) -> bytes:
        """All bytes of a request over HTTP/1.1."""
        body = self.body(question)
        headers = {"host": "127.0.0.1", **self.aim.headers, "content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + body

    def message(self, question: Question) -> bytes:
        return question.prompt(self.model) if self.form == "plain" else question.message(self.model)


@dataclass(frozen=True, kw_only=True)
class Server:
    """
    A running server.

    Attributes:
        name: The product and its settings, for example ``mendel fast``.
        product: The product alone.
        workers: Worker processes, or instances of the model.
        routes: The ways to ask it, by door and variant.
        start_s: The seconds from the start of the process until the model was ready.
        headers: The headers that the metrics route needs.
        lost: The metric that counts answered rows that were not logged; empty for servers without a log.
    """

    name: str
    product: str
    workers: int
    routes: tuple[Route, ...]
    process: subprocess.Popen[bytes]
    metrics_port: int
    start_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    lost: str = ""

    def samples(self) -> Samples:
        """Every sample of the server's metrics: name, labels, value."""
        status, text = get(self.metrics_port, "/metrics", self.headers)
        if status != http.client.OK:
            raise RuntimeError(f"{self.name} answered /metrics with {status}")
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def answered(self, route: Route) -> int:
        """How many requests of *route* the server counts as answered rightly since its start."""
        return int(sum(value for name, labels, value in self.samples() if route.counted(name, labels)))

    def unlogged(self) -> int:
        """How many answered rows the server could not log."""
        return int(sum(value for name, _, value in self.samples() if name == self.lost)) if self.lost else 0

    @property
    def memory_mb(self) -> float:
        return memory_mb(self.process.pid)


def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def await_ready(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    """Wait until GET *path* gives 200; raise RuntimeError with the end of *log* if that takes too long."""
    end = time.monotonic() + START_S
    while True:
        try:
            if get(port, path)[0] == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"The server did not become ready: {log.read_text()[-3000:]}")
        time.sleep(0.02)
