"""Read and write request bodies of the Open Inference Protocol v2: JSON, or JSON followed by binary tensors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import orjson

from mendel.errors import InvalidRequest
from mendel.serving import (
    InferenceAnswer,
    Tensor,
    Tensors,
    answer_parameters,
    check_depth,
    check_json_size,
    check_keys,
    event_time_of,
    from_raw,
    key_of,
    raw_of,
    shown,
    without_mark,
)
from mendel.transports.rest.http_messages import Response, decimal, json_response

HEADER_LENGTH = b"inference-header-content-length"
_BINARY_TYPE = b"application/octet-stream"


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_decoder = msgspec.json.Decoder(_Body)


class V2Request(msgspec.Struct, frozen=True, kw_only=True):
    """
    A decoded inference request of the Open Inference Protocol v2.

    Attributes:
        outputs: The requested outputs; the value is True for binary, False for JSON, None for the default ``binary``.
            Empty requests all outputs.
        binary: True when outputs are sent as binary, unless ``outputs`` states another form for an output.
        key: The parameter ``key``: requests with the same key go to the same version; None without the parameter.
        event_time: The time of the predicted event; None when the request does not state it.
    """

    input: Tensors
    id: str | None
    outputs: Mapping[str, bool | None]
    binary: bool
    key: str | None
    event_time: datetime | None


def read_request(body: bytes, header_length: str | None) -> V2Request:
    """
    Decode the body of an inference request.

    Args:
        header_length: The length of the JSON part in bytes, from the header ``Inference-Header-Content-Length``; binary
            tensors follow. None means that the whole body is JSON.

    Raises:
        InvalidRequest: The body is not a request of the Open Inference Protocol v2, or names a key twice in one object.
        TooLarge: The body has more than a million lists and objects, or more than ten million values.
    """
    split = _split(body, header_length)
    text = without_mark(body[:split])
    check_json_size(text)
    try:
        parsed = _decoder.decode(text)
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and text that is not Unicode
        raise InvalidRequest(f"The body is not a request of the Open Inference Protocol v2: {error}.") from error
    _check_objects(parsed, text)
    place, tensors = split, []
    for given in parsed.inputs:
        size = given.parameters.get("binary_data_size")
        if size is None:
            values = given.data
        else:
            values, place = _binary(given, body, place, size), place + size
        tensors.append(Tensor(name=given.name, datatype=given.datatype, shape=tuple(given.shape), values=values))
    if place != len(body):
        raise InvalidRequest(f"The body has {len(body) - place} bytes after the last binary tensor.")
    return V2Request(
        input=Tensors(tensors=tuple(tensors)),
        id=parsed.id,
        outputs={output.name: output.parameters.get("binary_data") for output in parsed.outputs},
        binary=parsed.parameters.get("binary_data_output") is True,
        key=key_of(parsed.parameters.get("key")),
        event_time=event_time_of(parsed.parameters.get("event_time")),
    )


def write_response(answer: InferenceAnswer, asked: V2Request, tensors: tuple[Tensor, ...]) -> Response:
    """Encode the response to *asked*: JSON, followed by the tensors that the request wants as binary."""
    outputs: list[dict[str, Any]] = []
    raws: list[bytes] = []
    for tensor in tensors:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        wanted = asked.outputs.get(tensor.name)
        if asked.binary if wanted is None else wanted:
            raws.append(raw_of(tensor.values, tensor.datatype))
            output["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            output["data"] = tensor.values
        outputs.append(output)
    document: dict[str, Any] = {
        "model_name": answer.metadata.model,
        "parameters": answer_parameters(answer),
        "outputs": outputs,
    }
    if answer.metadata.label is not None:
        document["model_version"] = answer.metadata.label
    if asked.id is not None:
        document["id"] = asked.id
    if not raws:
        return json_response(document)
    head = orjson.dumps(document)
    length = ((HEADER_LENGTH, str(len(head)).encode()),)
    return Response(body=b"".join([head, *raws]), content_type=_BINARY_TYPE, headers=length)


def _check_objects(parsed: _Body, text: bytes | str) -> None:
    """Refuse a body that is nested too deep, or in which an object names a key twice: readers might take either."""
    free: list[Any] = [parsed.parameters]  # the objects whose keys the protocol does not fix
    beside = 1 + (parsed.id is not None) + bool(parsed.parameters) + bool(parsed.outputs)
    for given in parsed.inputs:
        free += (given.parameters, given.data)
        beside += 3 + (given.data is not None) + bool(given.parameters)
    for output in parsed.outputs:
        free.append(output.parameters)
        beside += 1 + bool(output.parameters)
    check_depth(free, text)
    check_keys(free, text, beside=beside)


def _binary(given: _Input, body: bytes, place: int, size: Any) -> np.ndarray[Any, Any]:
    if type(size) is not int or not 0 <= size <= len(body) - place:
        left = len(body) - place
        raise InvalidRequest(
            f"Input {given.name!r} states binary_data_size {shown(size)}, but the body has {left} more bytes.",
            feature=given.name,
        )
    return from_raw(memoryview(body)[place : place + size], given.datatype, given.shape)


def _split(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    length = decimal(header_length)
    if length is None or length > len(body):
        raise InvalidRequest(
            f"The header Inference-Header-Content-Length is {shown(header_length)}, but the body has {len(body)} bytes."
        )
    return length
