"""Encode the responses of ``ModelInfer``; what is equal for the answers of one batch is encoded once."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Final

from mendel.protos import open_inference_pb2 as pb
from mendel.serving import InferenceAnswer, Tensor, answer_parameters, output_tensors
from mendel.transports.grpc.methods import Call
from mendel.transports.grpc.tensor_contents import FIELDS

_Output = pb.ModelInferResponse.InferOutputTensor
_PARAMETERS, _OUTPUTS, _RAW_OUTPUT_CONTENTS = b"\x22", b"\x2a", b"\x32"
"""The tags of fields of ``ModelInferResponse``; the encodings of its fields are concatenated."""
_KEY, _VALUE, _STRING_PARAM = b"\x0a", b"\x12", b"\x1a"
_CONTENTS, _FP64_CONTENTS = b"\x2a", b"\x3a"
_IDS: Final = "prediction_ids"
_PACKED: Final = {"BOOL": "?", "INT64": "q", "UINT64": "Q", "FP64": "d"}
"""The formats of the datatypes that predictions have, besides ``BYTES``."""
_LENGTH: Final = struct.Struct("<I")


def encode_infer(request: pb.ModelInferRequest, _: Call, answer: InferenceAnswer, constants: dict[Any, bytes]) -> bytes:
    """
    Encode the response to *request*; its contents are raw if those of the request are raw, else typed.

    Raises:
        InvalidRequest: The request asks for an output that the model does not have.
    """
    raw = bool(request.raw_input_contents)
    parts = [_head(answer, constants)]
    if request.id:
        parts.append(pb.ModelInferResponse(id=request.id).SerializeToString())
    if answer.prediction_ids is not None:
        parts += _ids(answer.prediction_ids, constants)
    for tensor in output_tensors(answer, [output.name for output in request.outputs]):
        values = _numbers(tensor.values)
        if raw:
            parts += (
                _described(tensor, constants, framed=True),
                _field(_RAW_OUTPUT_CONTENTS, _raw(values, tensor.datatype)),
            )
        else:
            contents = _field(_CONTENTS, _typed(values, tensor.datatype))
            parts.append(_field(_OUTPUTS, _described(tensor, constants, framed=False) + contents))
    return b"".join(parts)


def _head(answer: InferenceAnswer, constants: dict[Any, bytes]) -> bytes:
    """Encode the model's name, its version, and the parameters that do not depend on the request."""
    key = (answer.metadata.model, answer.metadata.label, answer.metadata.generation, answer.logged, answer.fallback)
    head = constants.get(key)
    if head is None:
        response = pb.ModelInferResponse(model_name=answer.metadata.model, model_version=answer.metadata.label or "")
        for name, value in answer_parameters(answer).items():
            if name != _IDS or value is None:
                _set_parameter(response.parameters[name], value)
        head = constants[key] = response.SerializeToString()
    return head


def _ids(prediction_ids: list[str], constants: dict[Any, bytes]) -> tuple[bytes, bytes]:
    """Encode the parameter with the prediction ids, a list in JSON; the ids are UUIDs."""
    text = ('["' + '", "'.join(prediction_ids) + '"]').encode()
    before = constants.get(len(text))
    if before is None:
        value = _field(_VALUE, _field(_STRING_PARAM, text))
        entry = _field(_PARAMETERS, _field(_KEY, _IDS.encode()) + value)
        before = constants[len(text)] = entry[: -len(text)]
    return before, text


def _described(tensor: Tensor, constants: dict[Any, bytes], *, framed: bool) -> bytes:
    """Encode name, datatype and shape of a tensor; *framed* as a whole output, else as the begin of one."""
    key = (tensor.name, tensor.datatype, tensor.shape, framed)
    described = constants.get(key)
    if described is None:
        message = _Output(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        described = message.SerializeToString()
        constants[key] = described = _field(_OUTPUTS, described) if framed else described
    return described


def _raw(values: Sequence[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = [_bytes(value) for value in values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return struct.pack(f"<{len(values)}{_PACKED[datatype]}", *values)


def _typed(values: Sequence[Any], datatype: str) -> bytes:
    """Encode a message ``InferTensorContents``; its FP64 values are packed like raw ones."""
    if datatype == "FP64":
        return _field(_FP64_CONTENTS, _raw(values, datatype))
    contents = pb.InferTensorContents()
    given = [_bytes(value) for value in values] if datatype == "BYTES" else values
    getattr(contents, FIELDS[datatype]).extend(given)
    return contents.SerializeToString()


def _numbers(values: Sequence[Any]) -> Sequence[Any]:
    """Replace None, which stands for NaN and infinities, by NaN."""
    return [float("nan") if value is None else value for value in values] if None in values else values


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _field(tag: bytes, content: bytes) -> bytes:
    """Encode a field of bytes: its tag, the size as a varint, and the content."""
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - one byte
        return tag + bytes((size,)) + content
    varint = bytearray()
    while size > 0x7F:  # noqa: PLR2004 - seven bits per byte
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    varint.append(size)
    return tag + varint + content


def _set_parameter(target: pb.InferParameter, value: Any) -> None:
    if isinstance(value, bool):
        target.bool_param = value
    elif isinstance(value, int):
        target.int64_param = value
    else:
        target.string_param = json.dumps(value)
