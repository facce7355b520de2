"""The gRPC side of the server under test: its answers, its metadata, and a request that its model accepts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from mendel.conformance.model_under_test import ModelUnderTest
from mendel.conformance.outcomes import Undecided, Violation, expect, shown
from mendel.conformance.rest_server import RestServer
from mendel.conformance.tensors import DATATYPES, AnnouncedTensor, Tensor, from_raw, number, to_raw
from mendel.protos import open_inference_pb2 as pb
from mendel.protos.open_inference_pb2_grpc import GRPCInferenceServiceStub

BUSY: Final = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})
DENIED: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
"""The codes of a server that needs another key."""
_OWN_FIELDS: Final = frozenset({"BOOL", "INT64", "UINT64", "FP32", "FP64", "BYTES"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that ended with another status than OK."""

    method: str
    code: grpc.StatusCode
    text: str

    def __str__(self) -> str:
        return f"{self.method} ended with {self.code.name}: {shown(self.text, 200)}"


@dataclass(kw_only=True)
class GrpcServer(ModelUnderTest[Any]):
    """
    One server, asked over gRPC for one model; an answer is a ModelInferResponse or a Refusal.

    Attributes:
        version: The version of the model in the messages; empty leaves the choice to the server.
        seconds: The deadline of each call.
        rest: The REST side of the same server; None if it is not asked.
    """

    channel: grpc.Channel
    version: str = ""
    seconds: float = 10.0
    credentials: tuple[tuple[str, str], ...] = ()
    rest: RestServer | None = None

    def call(self, method: str, message: Any, *, seconds: float | None = None) -> Any:
        """Call *method* of the inference service; gives its answer, or the Refusal."""
        stub = GRPCInferenceServiceStub(self.channel)  # type: ignore[no-untyped-call]
        call = getattr(stub, method)
        return self.called(method, call, message, seconds=seconds)

    def called(self, name: str, call: Any, message: Any, *, seconds: float | None = None) -> Any:
        """Make a unary *call*; gives its answer, or the Refusal."""
        try:
            return call(message, timeout=seconds or self.seconds, metadata=self.credentials)
        except grpc.RpcError as error:
            return Refusal(name, error.code(), error.details() or "")

    def answered(self, method: str, message: Any) -> Any:
        """
        Call *method*, which has to answer.

        Raises:
            Undecided: The server is busy, or needs another key.
            Violation: The call ends with another status than OK.
        """
        answer = self.call(method, message)
        if isinstance(answer, Refusal):
            turned_away = answer.code in {*BUSY, *DENIED}
            raise Undecided(f"The server turns the call away: {answer}") if turned_away else Violation(str(answer))
        return answer

    def metadata(self) -> pb.ModelMetadataResponse:
        """Give the metadata of the model; raises Undecided if the server refuses them."""
        answer = self.call("ModelMetadata", pb.ModelMetadataRequest(name=self.model, version=self.version))
        if isinstance(answer, Refusal):
            raise Undecided(f"The metadata of the model cannot be read: {answer}")
        return answer  # type: ignore[no-any-return]

    def announced(self, key: str) -> tuple[AnnouncedTensor, ...]:
        """Read the announced ``inputs`` or ``outputs``."""
        tensors = tuple(getattr(self.metadata(), key))
        for place, one in enumerate(tensors):
            expect(bool(one.name), f"{key}[{place}] has no name.")
            expect(one.datatype in DATATYPES, f"{key}[{place}] has the datatype {shown(one.datatype)!r}.")
            expect(all(axis >= -1 for axis in one.shape), f"{key}[{place}] has the shape {list(one.shape)}.")
        return tuple(AnnouncedTensor(name=one.name, datatype=one.datatype, shape=tuple(one.shape)) for one in tensors)

    def ask(self, inputs: tuple[Tensor, ...]) -> Any:
        return self.call("ModelInfer", self.message(inputs))

    def accepts(self, answer: Any) -> bool:
        return not isinstance(answer, Refusal)

    def is_absent(self, refusal: Any) -> bool:
        return bool(refusal.code is grpc.StatusCode.UNIMPLEMENTED)

    def outputs(self, answer: Any) -> tuple[Tensor, ...]:
        return outputs_of(answer)

    def message(self, inputs: Sequence[Tensor], *, raw: bool | None = None, **fields: Any) -> pb.ModelInferRequest:
        """
        Write a request to the model.

        Args:
            raw: Whether the contents are raw; None means only if the protocol has no typed contents for a datatype.
        """
        message = pb.ModelInferRequest(**{"model_name": self.model, "model_version": self.version, **fields})
        if raw is None:
            raw = any(one.datatype in {"FP16", "BF16"} for one in inputs)
        for one in inputs:
            target = message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
            if raw:
                message.raw_input_contents.append(to_raw(one))
            else:
                values = (value.encode() if isinstance(value, str) else number(value) for value in one.values)
                getattr(target.contents, contents_field(one.datatype)).extend(values)
        return message


def contents_field(datatype: str) -> str:
    """
    Give the field of the typed contents of *datatype*.

    >>> contents_field("UINT8"), contents_field("INT64"), contents_field("BYTES")
    ('uint_contents', 'int64_contents', 'bytes_contents')
    """
    if datatype in _OWN_FIELDS:
        return f"{datatype.lower()}_contents"
    return "uint_contents" if datatype.startswith("UINT") else "int_contents"


def check_outputs(answer: pb.ModelInferResponse) -> None:
    """
    Expect that each output has a name, a known datatype, a shape, and contents in one of the two forms.

    Raises:
        Violation: An output lacks one of these.
    """
    expect(bool(answer.outputs), "The answer has no outputs.")
    for place, one in enumerate(answer.outputs):
        expect(bool(one.name), f"outputs[{place}] has no name.")
        expect(one.datatype in DATATYPES, f"Output {shown(one.name)} has the datatype {shown(one.datatype)!r}.")
        expect(all(axis >= 0 for axis in one.shape), f"Output {shown(one.name)} has the shape {list(one.shape)}.")
        twice = bool(answer.raw_output_contents) and one.contents.ByteSize() > 0
        expect(not twice, f"Output {shown(one.name)} has both raw and typed contents.")
    names = [one.name for one in answer.outputs]
    expect(len(set(names)) == len(names), f"An output stands twice in the answer: {shown(names)}")


def outputs_of(answer: pb.ModelInferResponse) -> tuple[Tensor, ...]:
    """
    Read the outputs of an answer with typed or raw contents.

    Raises:
        Violation: An output is not a tensor of the protocol.
    """
    check_outputs(answer)
    raws = answer.raw_output_contents
    if not raws:
        return tuple(map(_typed, answer.outputs))
    expect(len(raws) == len(answer.outputs), f"{len(answer.outputs)} outputs have {len(raws)} raw contents.")
    pairs = zip(raws, answer.outputs, strict=True)
    return tuple(from_raw(raw, one.name, one.datatype, one.shape) for raw, one in pairs)


def parameters(values: Mapping[str, Any]) -> dict[str, pb.InferParameter]:
    """Write parameters of a request."""
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param"}
    return {name: pb.InferParameter(**{kinds[type(value)]: value}) for name, value in values.items()}


def _typed(one: pb.ModelInferResponse.InferOutputTensor) -> Tensor:
    values = tuple(getattr(one.contents, contents_field(one.datatype)))
    expect(
        len(values) == math.prod(one.shape),
        f"Output {shown(one.name)} has {len(values)} elements of {one.datatype} for the shape {list(one.shape)}.",
    )
    return Tensor(name=one.name, datatype=one.datatype, shape=tuple(one.shape), values=values)
