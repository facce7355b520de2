"""A client for each protocol (REST, gRPC, ZMQ), as an application would write it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorAnswer:
    """
    The answer of the server to one row.

    Attributes:
        ok: True when the server answered with a prediction.
        model_fault: True when the server answered that the model failed, or that its circuit breaker is open.
        detail: The error message of the server; empty when ``ok``.
    """

    ok: bool
    version: int | None = None
    prediction: Any = None
    prediction_id: str | None = None
    model_fault: bool = False
    detail: str = ""


class DoorClient(Protocol):
    """A persistent connection that sends one row at a time."""

    name: str

    def predict(self, row: Row) -> DoorAnswer:
        """Send *row* and wait for the answer."""

    def close(self) -> None:
        """Close the connection."""


def _answered(document: dict[str, Any]) -> DoorAnswer:
    ids = document.get("prediction_ids") or [None]
    return DoorAnswer(
        ok=True,
        version=int(document["metadata"]["model_version"]),
        prediction=document["predictions"][0],
        prediction_id=ids[0],
    )


class RestDoorClient:
    """A REST client over HTTP/1.1 with keep-alive, which reconnects after the server closed an idle connection."""

    name = "rest"
    _MODEL_FAULTS = frozenset({500, 502})

    def __init__(self, host: str, port: int, model: str) -> None:
        self._model = model
        self._connection = http.client.HTTPConnection(host, port, timeout=30)

    def predict(self, row: Row) -> DoorAnswer:
        """POST /v1/{classifier}/predict."""
        body = json.dumps({"records": [row]})
        headers = {"content-type": "application/json"}
        try:
            status, text = self._exchange(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return DoorAnswer(ok=False, detail=f"{type(error).__name__}: {error}")
        if status == http.HTTPStatus.OK:
            return _answered(json.loads(text))
        fault = status in self._MODEL_FAULTS or (status == http.HTTPStatus.SERVICE_UNAVAILABLE and "breaker" in text)
        return DoorAnswer(ok=False, model_fault=fault, detail=f"{status} {text[:200]}")

    def _exchange(self, body: str, headers: dict[str, str]) -> tuple[int, str]:
        self._connection.request("POST", f"/v1/{self._model}/predict", body=body, headers=headers)
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class GrpcDoorClient:
    """A gRPC client that calls ``modelops.ModelOps/Infer``."""

    name = "grpc"

    def __init__(self, host: str, port: int, model: str) -> None:
        import grpc  # noqa: PLC0415 - half a second, for this door only

        from mendel.protos import modelops_pb2, modelops_pb2_grpc  # noqa: PLC0415

        self._model = model
        self._channel = grpc.insecure_channel(f"{host}:{port}")
        self._request = modelops_pb2.InferenceRequest
        self._infer = modelops_pb2_grpc.ModelOpsStub(self._channel).Infer  # type: ignore[no-untyped-call]
        self._error: type[grpc.RpcError] = grpc.RpcError

    def predict(self, row: Row) -> DoorAnswer:
        """Call ``Infer`` with *row* as plain JSON in the field ``prompt``."""
        request = self._request(model_name=self._model, prompt=json.dumps({"records": [row]}))
        try:
            response = self._infer(request, timeout=30)
        except self._error as error:
            code, detail = error.code().name, error.details() or ""
            fault = code in {"INTERNAL", "UNKNOWN"} or (code == "UNAVAILABLE" and "breaker" in detail)
            return DoorAnswer(ok=False, model_fault=fault, detail=f"{code} {detail[:200]}")
        return _answered(json.loads(response.response_text))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


class ZmqDoorClient:
    """A ZMQ client that sends one JSON message at a time and waits for the reply."""

    name = "zmq"

    def __init__(self, host: str, port: int, model: str) -> None:
        import zmq  # noqa: PLC0415 - for this door only

        self._model = model
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvtimeo = 30_000
        self._socket.connect(f"tcp://{host}:{port}")
        self._again = zmq.Again
        self._sent = 0

    def predict(self, row: Row) -> DoorAnswer:
        """Send *row* in a message of type ``inference_request``."""
        self._sent += 1
        request = {
            "type": "inference_request",
            "client_id": "demo",
            "request_id": str(self._sent),
            "timestamp": 0,
            "data": {"model_name": self._model, "inputs": [row]},
        }
        try:
            self._socket.send(json.dumps(request).encode())
            reply = json.loads(self._socket.recv())
        except self._again:
            return DoorAnswer(ok=False, detail="no reply within 30 s")
        if reply["type"] == "inference_response" and "predictions" in reply["data"]:
            return _answered(reply["data"])
        text = json.dumps(reply.get("data", reply))
        fault = "breaker" in text or '"model_failed"' in text
        return DoorAnswer(ok=False, model_fault=fault, detail=text[:200])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._context.term()


CLIENTS: Final[tuple[type[RestDoorClient | GrpcDoorClient | ZmqDoorClient], ...]] = (
    RestDoorClient,
    GrpcDoorClient,
    ZmqDoorClient,
)


class DoorClients:
    """A context manager that opens a client for each protocol of one server; *ports* maps protocol names to ports."""

    def __init__(self, host: str, ports: Mapping[str, Sequence[int]], model: str) -> None:
        self.all: tuple[DoorClient, ...] = tuple(client(host, ports[client.name][0], model) for client in CLIENTS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for door in self.all:
            door.close()
