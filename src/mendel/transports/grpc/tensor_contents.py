"""Convert gRPC messages of the Open Inference Protocol v2 to tensors, with typed or raw contents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mendel.errors import InvalidRequest
from mendel.protos import open_inference_pb2 as pb
from mendel.serving import Tensor, Tensors, check_values, elements, from_raw

_SHORT = 1_000
"""Fewer numbers are handed on as a list, which is faster than an array."""
FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The fields of typed contents by datatype."""


def tensors_of(request: pb.ModelInferRequest) -> Tensors:
    """
    Read the input tensors of a request.

    Raises:
        InvalidRequest: The contents of a tensor are missing, or do not fit its datatype and shape.
        TooLarge: The typed contents of a tensor have more than ten million elements.
    """
    inputs, raws = request.inputs, request.raw_input_contents
    if raws and len(raws) != len(inputs):
        raise InvalidRequest(
            f"The request has {len(inputs)} inputs and {len(raws)} raw_input_contents.",
            remedy="Send raw_input_contents for every input or for none.",
        )
    tensors = []
    for place, given in enumerate(inputs):
        shape, datatype = tuple(given.shape[:]), given.datatype
        values = from_raw(raws[place], datatype, shape) if raws else _typed(given, shape)
        tensors.append(Tensor(name=given.name, datatype=datatype, shape=shape, values=values))
    return Tensors(tensors=tuple(tensors))


def parameter(parameters: Mapping[str, pb.InferParameter], name: str) -> Any:
    """Give the value of the request parameter *name*; None without the parameter."""
    if name not in parameters:
        return None
    choice = parameters[name].WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameters[name], choice)


def _typed(given: pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...]) -> Any:
    field = FIELDS.get(given.datatype)
    if field is None:
        raise InvalidRequest(
            f"Input {given.name!r} has the datatype {given.datatype!r}, which has no typed contents in the protocol.",
            feature=given.name,
            remedy="Send the tensor in raw_input_contents.",
        )
    values = getattr(given.contents, field)
    if len(values) != (size := elements(shape)):
        raise InvalidRequest(
            f"Input {given.name!r} has {len(values)} values; its shape {list(shape)} needs {size}.",
            feature=given.name,
        )
    check_values(size)
    if given.datatype.startswith("FP") and size > _SHORT:
        return np.array(values[:], dtype=np.float64)
    return values[:]
