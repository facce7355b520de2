"""Ask a server of the Open Inference Protocol v2 over gRPC, with raw tensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import grpc
import numpy as np

from mendel.adapters.remote.rest_client import values_of_raw
from mendel.adapters.remote.server_client import (
    Announced,
    Answer,
    Attempt,
    Busy,
    Overdue,
    Refused,
    Unreachable,
    answer_of,
    failed,
    invalid,
    shaped,
    shortened,
)
from mendel.protos import open_inference_pb2 as pb
from mendel.protos import open_inference_pb2_grpc as stubs
from mendel.serving import RemoteAddress, RemoteModel, Tensor, TensorSpec, to_raw

_DENIED: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_ABSENT: Final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
_LOST: Final = ("connect", "socket", "goaway", "transport", "dns", "handshak", "broken pipe")
"""Words of grpcio's own messages about a connection; nothing else tells them from UNAVAILABLE of the server."""
_TOO_LARGE: Final = "larger than max"
_NEAR_S: Final = 0.1
"""The server may notice the end of the time that this client gave it a little earlier than this client."""
_TYPED: Final = {
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class GrpcClient:
    """
    Implements :class:`~mendel.adapters.remote.server_client.ServerClient` with one channel.

    Args:
        key: Sent as a bearer token; None sends none.
        most_bytes: The largest message that is received.
    """

    def __init__(self, address: RemoteAddress, model: RemoteModel, *, key: str | None, most_bytes: int) -> None:
        self._address, self._model = address, model
        self._metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        self._channel = grpc.insecure_channel(
            address.netloc,
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self._stub: Any = stubs.GRPCInferenceServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def announced(self, attempt: Attempt) -> Announced:
        request = pb.ModelMetadataRequest(name=self._model.model, version=self._model.version)
        told = self._ask(self._stub.ModelMetadata, request, attempt)
        return Announced(inputs=tuple(map(_spec, told.inputs)), outputs=tuple(map(_spec, told.outputs)))

    def unready(self, attempt: Attempt) -> str | None:
        request = pb.ModelReadyRequest(name=self._model.model, version=self._model.version)
        try:
            told = self._ask(self._stub.ModelReady, request, attempt)
        except Busy as error:
            return str(error)
        return None if told.ready else "it says that the model is not ready"

    def infer(self, inputs: Sequence[Tensor], attempt: Attempt) -> Answer:
        request = pb.ModelInferRequest(model_name=self._model.model, model_version=self._model.version)
        for tensor in inputs:
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            request.raw_input_contents.append(to_raw(np.asarray(tensor.values), tensor.datatype))
        told = self._ask(self._stub.ModelInfer, request, attempt)
        raws = told.raw_output_contents
        if raws and len(raws) != len(told.outputs):
            raise invalid(self._address, f"has {len(told.outputs)} outputs and {len(raws)} raw contents")
        return answer_of(
            [self._tensor(output, raws[place] if raws else None) for place, output in enumerate(told.outputs)],
            self._address,
        )

    def close(self) -> None:
        self._channel.close()

    def _ask(self, method: Callable[..., Any], request: Any, attempt: Attempt) -> Any:
        running = None
        try:
            running = method.future(request, timeout=attempt.left, metadata=self._metadata)  # type: ignore[attr-defined]
            attempt.on_end(running.cancel)
            return running.result()
        except grpc.FutureCancelledError:
            raise attempt.ended or Unreachable("the connection was closed") from None
        except grpc.RpcError as error:
            self._raise(error, attempt)
        except ValueError:  # the channel was closed
            raise attempt.ended or Unreachable("the connection was closed") from None

    def _raise(self, error: Any, attempt: Attempt) -> NoReturn:
        """Raise what the status of a failed call means."""
        code, text = error.code(), shortened(error.details() or "")
        if attempt.ended is not None:
            raise attempt.ended
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and attempt.until - time.monotonic() < _NEAR_S:
            raise Overdue("it did not answer in time")
        if code is grpc.StatusCode.UNAVAILABLE and any(word in text.lower() for word in _LOST):
            raise Unreachable(f"it cannot be reached ({text})")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in text:
            raise invalid(self._address, "is larger than serving.max_body_bytes")
        if code in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.CANCELLED,
        }:
            raise Busy(f"it answered {code.name}: {text}")
        if code in _DENIED:
            raise Refused(f"it refuses the key, or wants one ({code.name})")
        if code in _ABSENT:
            raise Refused(f"it has no such model ({code.name}: {text})")
        raise failed(self._address, code.name, text)

    def _tensor(self, output: Any, raw: bytes | None) -> Tensor:
        shape = list(output.shape)
        values = self._typed(output) if raw is None else values_of_raw(raw, output.datatype, shape, self._address)
        rows = shaped(values, shape, self._address)
        return Tensor(name=output.name, datatype=output.datatype, shape=tuple(shape), values=rows)

    def _typed(self, output: Any) -> list[Any]:
        narrow = "uint_contents" if output.datatype.startswith("UINT") else "int_contents"
        values = list(getattr(output.contents, _TYPED.get(output.datatype, narrow)))
        try:
            return [value.decode() if isinstance(value, bytes) else value for value in values]
        except UnicodeDecodeError:
            raise invalid(self._address, "has bytes that are not text") from None


def _spec(given: Any) -> TensorSpec:
    return TensorSpec(given.name, given.datatype, tuple(given.shape))
