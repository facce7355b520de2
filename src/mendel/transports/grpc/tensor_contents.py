"""Convert gRPC messages of the Open Inference Protocol v2 to tensors and back, with typed or raw contents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mendel.errors import InvalidRequest
from mendel.protos import open_inference_pb2 as pb
from mendel.serving import InferenceAnswer, Tensor, Tensors, check_values, elements, from_raw, to_raw

_FIELDS = {
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


def tensors_of(request: pb.ModelInferRequest) -> Tensors:
    """
    Read the input tensors of a request.

    Raises:
        InvalidRequest: The contents of a tensor are missing, or do not fit its datatype and shape.
        TooLarge: The typed contents of a tensor have more than ten million elements.
    """
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidRequest(
            f"The request has {len(request.inputs)} inputs and {len(raws)} raw_input_contents.",
            remedy="Send raw_input_contents for every input or for none.",
        )
    return Tensors(
        tensors=tuple(
            Tensor(
                name=given.name,
                datatype=given.datatype,
                shape=tuple(given.shape),
                values=from_raw(raws[place], given.datatype, list(given.shape)) if raws else _typed(given),
            )
            for place, given in enumerate(request.inputs)
        )
    )


def response_of(
    request: pb.ModelInferRequest, answer: InferenceAnswer, tensors: Sequence[Tensor], parameters: Mapping[str, Any]
) -> pb.ModelInferResponse:
    """Build the response to *request*; its contents are raw if those of the request are raw, else typed."""
    response = pb.ModelInferResponse(
        model_name=answer.metadata.model, model_version=answer.metadata.label or "", id=request.id
    )
    for name, value in parameters.items():
        _set_parameter(response.parameters[name], value)
    for tensor in tensors:
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        values = [float("nan") if value is None else value for value in tensor.values]
        if request.raw_input_contents:
            array = np.array(values, dtype=object) if tensor.datatype == "BYTES" else np.array(values)
            response.raw_output_contents.append(to_raw(array, tensor.datatype))
        else:
            getattr(output.contents, _FIELDS[tensor.datatype]).extend(_typed_values(values, tensor.datatype))
    return response


def parameter(parameters: Mapping[str, pb.InferParameter], name: str) -> Any:
    """Give the value of the request parameter *name*; None without the parameter."""
    if name not in parameters:
        return None
    choice = parameters[name].WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameters[name], choice)


def _typed(given: pb.ModelInferRequest.InferInputTensor) -> Any:
    field = _FIELDS.get(given.datatype)
    if field is None:
        raise InvalidRequest(
            f"Input {given.name!r} has the datatype {given.datatype!r}, which has no typed contents in the protocol.",
            feature=given.name,
            remedy="Send the tensor in raw_input_contents.",
        )
    values = getattr(given.contents, field)
    if len(values) != (size := elements(given.shape)):
        raise InvalidRequest(
            f"Input {given.name!r} has {len(values)} values; its shape {list(given.shape)} needs {size}.",
            feature=given.name,
        )
    check_values(size)
    if given.datatype.startswith("FP"):
        return np.array(values, dtype=np.float64)
    return list(values)


def _typed_values(values: Iterable[Any], datatype: str) -> Iterable[Any]:
    return (str(value).encode() for value in values) if datatype == "BYTES" else values


def _set_parameter(target: pb.InferParameter, value: Any) -> None:
    if isinstance(value, bool):
        target.bool_param = value
    elif isinstance(value, int):
        target.int64_param = value
    else:
        target.string_param = json.dumps(value)
