"""A real client that asks beside the load generator and compares every answer with the model's own."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import cycle
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
import numpy as np
from servers import Route
from training import OUTPUT
from workload import Question

from mendel.protos import modelops_pb2
from mendel.protos import open_inference_pb2 as v2

PAUSE_S = 0.1
TIMEOUT_S = 20.0


class Ask(Protocol):
    """Sends one request, and gives the classes in the answer."""

    def __call__(self, question: Question) -> list[int]: ...


class Witness:
    """
    Asks about ten times a second until its block ends.

    Attributes:
        asked: Requests that were answered, rightly or not.
        wrong: What was wrong, one sentence for each request that failed or had a wrong answer.
    """

    def __init__(self, route: Route, questions: Sequence[Question]) -> None:
        self._route, self._questions = route, questions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.asked = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with client(self._route) as ask:
            for question in cycle(self._questions):
                self._check(ask, question)
                if self._stop.wait(PAUSE_S):
                    return

    def _check(self, ask: Ask, question: Question) -> None:
        try:
            found = ask(question)
        except (grpc.RpcError, OSError, http.client.HTTPException, LookupError, ValueError) as error:
            self.wrong.append(f"the client beside got {error!r:.300}")
            return
        self.asked += 1
        if found != list(question.classes):
            self.wrong.append(f"the client beside got {found[:5]} instead of {list(question.classes)[:5]}")


@contextmanager
def client(route: Route) -> Iterator[Ask]:
    """Open a persistent connection for *route*: grpcio, or http.client."""
    if route.door == "gRPC":
        with grpc.insecure_channel(f"127.0.0.1:{route.port}") as channel:
            yield _grpc_ask(route, channel)
    else:
        with closing(http.client.HTTPConnection("127.0.0.1", route.port, timeout=TIMEOUT_S)) as connection:
            yield _rest_ask(route, connection)


def _grpc_ask(route: Route, channel: grpc.Channel) -> Ask:
    call = channel.unary_unary(route.path)
    metadata = [(name, value) for name, value in route.headers.items() if name != "grpc-timeout"]

    def ask(question: Question) -> list[int]:
        answer = call(route.message(question), timeout=TIMEOUT_S, metadata=metadata)
        if route.form == "plain":
            return list(json.loads(modelops_pb2.InferenceResponse.FromString(answer).response_text)["predictions"])
        return _classes(v2.ModelInferResponse.FromString(answer))

    return ask


def _classes(response: Any) -> list[int]:
    place = next(place for place, output in enumerate(response.outputs) if output.name == OUTPUT)
    if response.raw_output_contents:
        return list(np.frombuffer(response.raw_output_contents[place], dtype="<i8").tolist())
    return list(response.outputs[place].contents.int64_contents)


def _rest_ask(route: Route, connection: http.client.HTTPConnection) -> Ask:
    headers = {"content-type": "application/json", **route.headers}

    def ask(question: Question) -> list[int]:
        connection.request("POST", route.path, body=route.body(question), headers=headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != http.client.OK:
            raise ValueError(f"{response.status} {text[:200]!r}")
        told = json.loads(text)
        if route.form == "plain":
            return list(told["predictions"])
        return next(list(output["data"]) for output in told["outputs"] if output["name"] == OUTPUT)

    return ask
