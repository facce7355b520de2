"""The gRPC side of the server under test: its answers, its metadata, and a request that its model accepts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from mendel.conformance.outcomes import CheckEnded, Undecided, Violation, expect, shown
from mendel.conformance.rest_server import RestServer
from mendel.conformance.sample_inputs import Content, variations
from mendel.conformance.tensors import DATATYPES, AnnouncedTensor, Tensor, difference, from_raw, to_raw
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSample:
    """Inputs that the model accepted, and the answer; ``content`` is None if the user gave the inputs."""

    inputs: tuple[Tensor, ...]
    answer: pb.ModelInferResponse
    content: Content | None


@dataclass(slots=True)
class GrpcServer:
    """
    One server, asked over gRPC for one model.

    Attributes:
        given: The inputs of the user, which are sent in place of made ones.
        seconds: The deadline of each call.
        rest: The REST side of the same server; None if it is not asked.
    """

    channel: grpc.Channel
    model: str
    version: str = ""
    given: tuple[Tensor, ...] | None = None
    seconds: float = 10.0
    credentials: tuple[tuple[str, str], ...] = ()
    rest: RestServer | None = None
    refusals: list[Refusal] = field(default_factory=list)
    _probed: GrpcSample | CheckEnded | None = None
    _repeatable: bool | None = None

    def ask(self, method: str, message: Any, *, seconds: float | None = None) -> Any:
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
        answer = self.ask(method, message)
        if isinstance(answer, Refusal):
            turned_away = answer.code in {*BUSY, *DENIED}
            raise Undecided(f"The server turns the call away: {answer}") if turned_away else Violation(str(answer))
        return answer

    def metadata(self) -> pb.ModelMetadataResponse:
        """Give the metadata of the model; raises Undecided if the server refuses them."""
        answer = self.ask("ModelMetadata", pb.ModelMetadataRequest(name=self.model, version=self.version))
        if isinstance(answer, Refusal):
            raise Undecided(f"The metadata of the model cannot be read: {answer}")
        return answer  # type: ignore[no-any-return]

    def inputs(self) -> tuple[AnnouncedTensor, ...]:
        """Give the announced inputs; raises Undecided if they cannot be read."""
        try:
            return announced(self.metadata().inputs, "inputs")
        except Violation as violation:
            raise Undecided(f"The announced inputs cannot be read: {violation}") from violation

    def sample(self) -> GrpcSample:
        """
        Give inputs that the model accepts, with the server's answer; they are searched for once.

        Raises:
            Undecided: The model accepts none of the inputs that can be made.
        """
        if self._probed is None:
            try:
                self._probed = self._probe()
            except CheckEnded as ended:
                self._probed = ended
        if isinstance(self._probed, CheckEnded):
            raise self._probed
        return self._probed

    def message(self, inputs: Sequence[Tensor], *, raw: bool | None = None, **fields: Any) -> pb.ModelInferRequest:
        """
        Write a request to the model.

        Args:
            raw: Whether the contents are raw; None means only if the protocol has no typed contents for a datatype.
        """
        message = pb.ModelInferRequest(**{"model_name": self.model, "model_version": self.version, **fields})
        if raw is None:
            raw = any(one.datatype == "FP16" for one in inputs)
        for one in inputs:
            target = message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
            if raw:
                message.raw_input_contents.append(to_raw(one))
            else:
                values = (value.encode() if isinstance(value, str) else value for value in one.values)
                getattr(target.contents, contents_field(one.datatype)).extend(values)
        return message

    def repeatable(self) -> bool:
        """Tell whether the model answers the sample alike when asked again."""
        if self._repeatable is None:
            sample = self.sample()
            again = self.answered("ModelInfer", self.message(sample.inputs))
            self._repeatable = difference(readable(sample.answer), readable(again)) is None
        return self._repeatable

    def expect_equal(self, answer: pb.ModelInferResponse, what: str) -> None:
        """
        Expect that *answer* gives the outputs of the sample.

        Raises:
            Undecided: The model answers equal requests differently.
            Violation: The outputs differ.
        """
        if not self.repeatable():
            raise Undecided("The model answers equal requests differently, so answers cannot be compared.")
        found = difference(readable(self.sample().answer), readable(answer))
        expect(found is None, f"{what} gets another answer: {found}.")

    def _probe(self) -> GrpcSample:
        tried = [(None, self.given)] if self.given is not None else variations(self.inputs(), 1)
        for content, inputs in tried:
            answer = self.ask("ModelInfer", self.message(inputs))
            if not isinstance(answer, Refusal):
                return GrpcSample(inputs=inputs, answer=answer, content=content)
            self.refusals.append(answer)
        raise Undecided("No request is accepted; see grpc.infer.")


def contents_field(datatype: str) -> str:
    """
    Give the field of the typed contents of *datatype*.

    >>> contents_field("UINT8"), contents_field("INT64"), contents_field("BYTES")
    ('uint_contents', 'int64_contents', 'bytes_contents')
    """
    if datatype in _OWN_FIELDS:
        return f"{datatype.lower()}_contents"
    return "uint_contents" if datatype.startswith("UINT") else "int_contents"


def announced(tensors: Sequence[pb.ModelMetadataResponse.TensorMetadata], key: str) -> tuple[AnnouncedTensor, ...]:
    """
    Read announced tensors.

    Raises:
        Violation: A tensor lacks its name, a known datatype or a shape.
    """
    for place, one in enumerate(tensors):
        expect(bool(one.name), f"{key}[{place}] has no name.")
        expect(one.datatype in DATATYPES, f"{key}[{place}] has the datatype {shown(one.datatype)!r}.")
        expect(all(axis >= -1 for axis in one.shape), f"{key}[{place}] has the shape {list(one.shape)}.")
    return tuple(AnnouncedTensor(name=one.name, datatype=one.datatype, shape=tuple(one.shape)) for one in tensors)


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


def readable(answer: pb.ModelInferResponse) -> tuple[Tensor, ...]:
    """Read the outputs of *answer*; raises Undecided if they cannot be read, because other checks find that."""
    try:
        return outputs_of(answer)
    except Violation as violation:
        raise Undecided(f"The answer cannot be read: {violation}") from violation


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
