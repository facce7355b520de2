"""The REST side of the server under test: its replies, its metadata, and a request that its model accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx

from mendel.conformance.outcomes import CheckEnded, Undecided, Violation, expect, shown
from mendel.conformance.sample_inputs import Content, made_inputs, variations
from mendel.conformance.tensors import DATATYPES, AnnouncedTensor, Tensor, difference, is_element, nested
from mendel.conformance.tensors import flat as elements_of

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
BUSY: Final = frozenset({429, 503})
DENIED: Final = frozenset({401, 403})
"""The statuses of a server that needs another key."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """
    The answer to one HTTP request.

    Attributes:
        asked: The method and path.
        status: The HTTP status; 0 if there was no answer, and the body tells why.
        connection: The stream that carried request and answer.
    """

    asked: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    connection: object = None

    @property
    def ok(self) -> bool:
        """Whether the status is 200."""
        return self.status == httpx.codes.OK

    @property
    def object(self) -> Json:
        """
        The body as a JSON object.

        Raises:
            Violation: The body is not a JSON object.
        """
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Violation(f"{self.asked} answered {self.status} with a body that is not a JSON object: {self.text}")
        return document

    @property
    def text(self) -> str:
        """The beginning of the body as printable text."""
        return shown(self.body[:1000].decode(errors="replace"), 200)

    def __str__(self) -> str:
        return f"{self.asked} {f'answered {self.status}' if self.status else 'got no answer'}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Inputs that the model accepted, and the reply; ``content`` is None if the user gave the inputs."""

    inputs: tuple[Tensor, ...]
    reply: Reply
    content: Content | None


@dataclass(slots=True)
class RestServer:
    """
    One server, asked over HTTP for one model.

    Attributes:
        given: The inputs of the user, which are sent in place of made ones.
        seconds: How long a check waits for a change of the server's state.
        allow_changes: Whether checks may unload and load the model.
    """

    http: httpx.Client
    model: str
    version: str | None = None
    given: tuple[Tensor, ...] | None = None
    seconds: float = 10.0
    allow_changes: bool = False
    refusals: list[Reply] = field(default_factory=list)
    _probed: Sample | CheckEnded | None = None
    _metadata: Json | CheckEnded | None = None
    _repeatable: bool | None = None

    @property
    def path(self) -> str:
        """The path of the model, with the version if the user named one."""
        return self.path_of(self.model, self.version)

    @staticmethod
    def path_of(model: str, version: str | None = None) -> str:
        """Give the path of a model, or of one version of the model."""
        path = f"/v2/models/{quote(model, safe='')}"
        return path if version is None else f"{path}/versions/{quote(version, safe='')}"

    def get(self, path: str) -> Reply:
        """Send a GET request."""
        return self._sent("GET", path, None, {})

    def post(self, path: str, body: Json | bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a POST request; *body* is written as JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._sent("POST", path, content, {"Content-Type": "application/json", **(headers or {})})

    def infer(self, body: Json | bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Send an inference request to the model."""
        return self.post(f"{self.path}/infer", body, headers)

    def answered(self, body: Json | bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """
        Send an inference request that has to be answered.

        Raises:
            Undecided: The server is busy.
            Violation: The server refused the request.
        """
        reply = self.infer(body, headers)
        if reply.status in BUSY:
            raise Undecided(f"The server is busy: {reply}")
        expect(reply.ok, str(reply))
        return reply

    def metadata(self) -> Json:
        """
        Give the metadata of the model.

        Raises:
            Undecided: The server gives no metadata that can be read.
        """
        if self._metadata is None:
            reply = self.get(self.path)
            try:
                expect(reply.ok, str(reply))
                self._metadata = reply.object
            except Violation as violation:
                self._metadata = Undecided(f"The metadata of the model cannot be read: {violation}")
        if isinstance(self._metadata, CheckEnded):
            raise self._metadata
        return self._metadata

    def versions(self) -> tuple[str, ...]:
        """Give the announced versions of the model; empty if the server announces none."""
        versions = self.metadata().get("versions")
        return tuple(one for one in versions if isinstance(one, str)) if isinstance(versions, list) else ()

    def inputs(self) -> tuple[AnnouncedTensor, ...]:
        """Give the announced inputs; raises Undecided if they cannot be read."""
        try:
            return announced(self.metadata(), "inputs")
        except Violation as violation:
            raise Undecided(f"The announced inputs cannot be read: {violation}") from violation

    def sample(self) -> Sample:
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

    def sample_of_rows(self, variable: int) -> tuple[Tensor, ...]:
        """Give inputs with the content of the sample, in which variable axes have the length *variable*."""
        content = self.sample().content
        if content is None:
            raise Undecided("The inputs were given, so they have one shape.")
        return made_inputs(self.inputs(), content, variable)

    def repeatable(self) -> bool:
        """Tell whether the model answers the sample alike when asked again."""
        if self._repeatable is None:
            sample = self.sample()
            again = self.answered(request(sample.inputs))
            self._repeatable = difference(readable(sample.reply), readable(again)) is None
        return self._repeatable

    def expect_equal(self, reply: Reply, what: str) -> None:
        """
        Expect that *reply* gives the outputs of the sample.

        Raises:
            Undecided: The model answers equal requests differently.
            Violation: The outputs differ.
        """
        if not self.repeatable():
            raise Undecided("The model answers equal requests differently, so answers cannot be compared.")
        found = difference(readable(self.sample().reply), readable(reply))
        expect(found is None, f"{what} gets another answer: {found}.")

    def _probe(self) -> Sample:
        tried = [(None, self.given)] if self.given is not None else variations(self.inputs(), 1)
        for content, inputs in tried:
            reply = self._tried(inputs)
            if reply.ok:
                return Sample(inputs=inputs, reply=reply, content=content)
            self.refusals.append(reply)
        raise Undecided("No request is accepted; see rest.infer.")

    def _tried(self, inputs: tuple[Tensor, ...]) -> Reply:
        try:
            return self.infer(request(inputs))
        except httpx.HTTPError as error:
            return Reply(f"POST {self.path}/infer", 0, {}, (str(error) or type(error).__name__).encode())

    def _sent(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> Reply:
        try:
            response = self.http.request(method, path, content=content, headers=dict(headers))
        except (
            httpx.NetworkError,
            httpx.RemoteProtocolError,
        ):  # the server may close a connection between two requests
            response = self.http.request(method, path, content=content, headers=dict(headers))
        connection = response.extensions.get("network_stream")
        return Reply(f"{method} {path}", response.status_code, response.headers, response.content, connection)


def request(inputs: Sequence[Tensor], *, as_nested: bool = False, **more: Any) -> Json:
    """Write an inference request; what is given *more* are further fields of the request."""
    tensors = [
        {
            "name": one.name,
            "shape": list(one.shape),
            "datatype": one.datatype,
            "data": nested(one.values, one.shape) if as_nested else list(one.values),
        }
        for one in inputs
    ]
    return {**more, "inputs": tensors}


def announced(metadata: Json, key: str) -> tuple[AnnouncedTensor, ...]:
    """
    Read the announced ``inputs`` or ``outputs``; a list that is absent is empty.

    Raises:
        Violation: A tensor lacks its name, a known datatype or a shape.
    """
    tensors = metadata.get(key) or []
    expect(isinstance(tensors, list), f"{key} is not a list: {shown(tensors)}")
    return tuple(_announced(one, f"{key}[{place}]") for place, one in enumerate(tensors))


def _announced(one: Any, where: str) -> AnnouncedTensor:
    expect(isinstance(one, dict), f"{where} is not an object: {shown(one)}")
    name, datatype, shape = one.get("name"), one.get("datatype"), one.get("shape")
    expect(isinstance(name, str), f"{where} has no name: {shown(one)}")
    expect(isinstance(datatype, str) and datatype in DATATYPES, f"{where} has the datatype {shown(datatype)}.")
    expect(_is_shape(shape, least=-1), f"{where} has the shape {shown(shape)}.")
    return AnnouncedTensor(name=name, datatype=datatype, shape=tuple(shape))


def output_fields(document: Json) -> tuple[Json, ...]:
    """
    Give the ``outputs`` of an answer, whose elements are not looked at.

    Raises:
        Violation: An output lacks its name, a known datatype or a shape.
    """
    outputs = document.get("outputs")
    if not isinstance(outputs, list) or not outputs:
        raise Violation(f"The answer has no list of outputs: {shown(document)}")
    for place, one in enumerate(outputs):
        where = f"outputs[{place}]"
        expect(isinstance(one, dict), f"{where} is not an object: {shown(one)}")
        expect(isinstance(one.get("name"), str), f"{where} has no name: {shown(one)}")
        datatype, shape = one.get("datatype"), one.get("shape")
        expect(isinstance(datatype, str) and datatype in DATATYPES, f"{where} has the datatype {shown(datatype)}.")
        expect(_is_shape(shape, least=0), f"{where} has the shape {shown(shape)}.")
    return tuple(outputs)


def outputs_of(document: Json) -> tuple[Tensor, ...]:
    """
    Read the outputs of an answer in JSON.

    Raises:
        Violation: An output is not a tensor of the protocol.
    """
    return tuple(_output(one) for one in output_fields(document))


def readable(reply: Reply) -> tuple[Tensor, ...]:
    """Read the outputs of *reply*; raises Undecided if they cannot be read, because other checks find that."""
    try:
        return outputs_of(reply.object)
    except Violation as violation:
        raise Undecided(f"The answer cannot be read: {violation}") from violation


def _output(one: Json) -> Tensor:
    name, datatype, shape = one["name"], one["datatype"], one["shape"]
    if not isinstance(one.get("data"), list):
        raise Violation(f"Output {shown(name)} has no data: {shown(one)}")
    values = tuple(elements_of(one["data"]))
    expect(
        len(values) == math.prod(shape), f"Output {shown(name)} has {len(values)} elements for the shape {list(shape)}."
    )
    wrong = [value for value in values if not is_element(value, datatype)]
    expect(not wrong, f"Output {shown(name)} of {datatype} has the elements {shown(wrong[:3], 60)}.")
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), values=values)


def _is_shape(shape: Any, *, least: int) -> bool:
    return isinstance(shape, list) and all(type(axis) is int and axis >= least for axis in shape)
