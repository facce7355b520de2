"""The REST side of the server under test: its replies, its metadata, and a request that its model accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from mendel.conformance.model_under_test import ModelUnderTest
from mendel.conformance.outcomes import CheckEnded, Undecided, Violation, expect, shown
from mendel.conformance.tensors import DATATYPES, AnnouncedTensor, Tensor, is_element, nested
from mendel.conformance.tensors import flat as elements_of

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
BUSY: Final = frozenset({429, 503})
ABSENT: Final = frozenset({0, 404, 405, 501})
"""The statuses of an endpoint that the server does not have, and of no answer."""
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
            document = json.loads(self.body, parse_constant=_no_json)
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


@dataclass(kw_only=True)
class RestServer(ModelUnderTest[Reply]):
    """
    One server, asked over HTTP for one model.

    Attributes:
        version: The version of the model in the paths; None for paths without a version.
        seconds: How long a check waits for a change of the server's state.
        allow_changes: Whether checks may unload and load the model.
    """

    http: httpx.Client
    version: str | None = None
    seconds: float = 10.0
    allow_changes: bool = False
    _metadata: Json | CheckEnded | None = None

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

    def announced(self, key: str) -> tuple[AnnouncedTensor, ...]:
        """Read the announced ``inputs`` or ``outputs``."""
        tensors = self.metadata().get(key)
        if not isinstance(tensors, list):
            raise Violation(f"{key} is not a list: {shown(tensors)}")
        return tuple(_announced(one, f"{key}[{place}]") for place, one in enumerate(tensors))

    def ask(self, inputs: tuple[Tensor, ...]) -> Reply:
        """Send an inference request; a reply with the status 0 tells why there was no answer."""
        try:
            return self.infer(request(inputs))
        except httpx.HTTPError as error:
            return Reply(f"POST {self.path}/infer", 0, {}, (str(error) or type(error).__name__).encode())

    def accepts(self, answer: Reply) -> bool:
        return answer.ok

    def is_absent(self, refusal: Reply) -> bool:
        return refusal.status in ABSENT

    def outputs(self, answer: Reply) -> tuple[Tensor, ...]:
        return outputs_of(answer.object)

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


def _no_json(word: str) -> Any:
    """Refuse ``NaN`` and ``Infinity``, which Python's parser takes for numbers, and JSON does not know."""
    raise ValueError(word)


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
    names = [one["name"] for one in outputs]
    expect(len(set(names)) == len(names), f"An output stands twice in the answer: {shown(names)}")
    return tuple(outputs)


def outputs_of(document: Json) -> tuple[Tensor, ...]:
    """
    Read the outputs of an answer in JSON.

    Raises:
        Violation: An output is not a tensor of the protocol.
    """
    return tuple(_output(one) for one in output_fields(document))


def _output(one: Json) -> Tensor:
    name, datatype, shape = one["name"], one["datatype"], one["shape"]
    if not isinstance(one.get("data"), list):
        raise Violation(f"Output {shown(name)} has no data: {shown(one)}")
    values = tuple(elements_of(one["data"]))
    expect(
        len(values) == math.prod(shape), f"Output {shown(name)} has {len(values)} elements for the shape {list(shape)}."
    )
    is_formed = one["data"] in (list(values), nested(values, shape))
    expect(is_formed, f"The lists of output {shown(name)} are nested otherwise than its shape {list(shape)}.")
    wrong = [value for value in values if not is_element(value, datatype)]
    expect(not wrong, f"Output {shown(name)} of {datatype} has the elements {shown(wrong[:3], 60)}.")
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), values=values)


def _is_shape(shape: Any, *, least: int) -> bool:
    return isinstance(shape, list) and all(type(axis) is int and axis >= least for axis in shape)
