"""Open connections to the server under test, and find its model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc
import httpx

from mendel.conformance.grpc_server import DENIED as GRPC_DENIED
from mendel.conformance.grpc_server import GrpcServer, Refusal
from mendel.conformance.rest_server import DENIED, Reply, RestServer
from mendel.conformance.tensors import Tensor
from mendel.errors import InvalidValue, ModelNotFound, Unauthenticated, Unavailable
from mendel.protos import open_inference_pb2 as pb

_MOST_MESSAGE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    The model that is checked, and how its server is asked.

    Attributes:
        model: The name of the model; None takes the first one that the server lists.
        given: Inputs that the model accepts; None makes inputs from the metadata.
        seconds: The time in which each request must be answered.
    """

    model: str | None
    version: str | None
    api_key: str | None
    given: tuple[Tensor, ...] | None
    seconds: float
    allow_changes: bool


@contextmanager
def rest_server(subject: Subject, url: str) -> Iterator[RestServer]:
    """
    Connect to the REST server of *subject*.

    Raises:
        InvalidValue: *url* is not an address of HTTP.
        Unavailable: The server cannot be reached.
        ModelNotFound, Unauthenticated: As for :func:`_require_model`.
    """
    with _http_client(url, subject.api_key, subject.seconds) as http:
        server = RestServer(
            http=http,
            model=subject.model or _first_model(http),
            version=subject.version,
            given=subject.given,
            seconds=subject.seconds,
            allow_changes=subject.allow_changes,
        )
        _require_model(server)
        yield server


@contextmanager
def grpc_server(subject: Subject, address: str, rest: RestServer | None) -> Iterator[GrpcServer]:
    """
    Connect to the gRPC server of *subject*, without TLS.

    Raises:
        Unavailable: The server cannot be reached.
        ModelNotFound, Unauthenticated: As for :func:`_require_model`.
    """
    model = subject.model if rest is None else rest.model
    if model is None:
        raise ModelNotFound("The gRPC protocol does not list models.", remedy="Name the model with --model.")
    options = [("grpc.max_receive_message_length", _MOST_MESSAGE_BYTES), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address.removeprefix("grpc://"), options=options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=subject.seconds)
        except grpc.FutureTimeoutError as error:
            raise Unavailable(f"The gRPC server at {address} cannot be reached.") from error
        server = GrpcServer(
            channel=channel,
            model=model,
            version=subject.version or "",
            given=subject.given,
            seconds=subject.seconds,
            credentials=() if subject.api_key is None else (("authorization", f"Bearer {subject.api_key}"),),
            rest=rest,
        )
        if rest is None:
            _require_model_over_grpc(server)
        yield server


@contextmanager
def _http_client(url: str, api_key: str | None, seconds: float) -> Iterator[httpx.Client]:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    with httpx.Client(
        base_url=_parsed(url), headers=headers, timeout=seconds, limits=limits, follow_redirects=True
    ) as client:
        try:
            client.get("/v2/health/live")
        except httpx.TransportError as error:
            raise Unavailable(f"The server at {url} cannot be reached: {error or type(error).__name__}.") from error
        yield client


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidValue(f"{url!r} is not an address of HTTP.", remedy="Write http://HOST:PORT.")
    return parsed


def _first_model(http: httpx.Client) -> str:
    """
    Give the first model that the server lists: in the repository index, else as KServe lists models.

    Raises:
        ModelNotFound: The server lists no models; the protocol itself has no list.
    """
    for method, path in (("POST", "/v2/repository/index"), ("GET", "/v2/models")):
        reply = http.request(method, path, json={} if method == "POST" else None)
        names = _listed(reply.content) if reply.status_code == httpx.codes.OK else ()
        if names:
            return names[0]
    raise ModelNotFound("The server lists no models.", remedy="Name the model with --model.")


def _require_model(server: RestServer) -> None:
    """
    Ask whether the server knows the model, by its metadata or its readiness.

    Raises:
        ModelNotFound: It does not.
        Unauthenticated: The server refuses the API key, or needs one.
    """
    metadata, ready = server.get(server.path), server.get(f"{server.path}/ready")
    if metadata.status in DENIED:
        raise Unauthenticated(f"The server refuses the key: {metadata}", remedy="Give a key with --api-key.")
    if all(_unknown(reply) for reply in (metadata, ready)):
        raise ModelNotFound(f"The server has no such model: {metadata}", remedy="Name the model with --model.")


def _require_model_over_grpc(server: GrpcServer) -> None:
    """Ask the same as :func:`_require_model` over gRPC."""
    answer = server.call("ModelMetadata", pb.ModelMetadataRequest(name=server.model, version=server.version))
    if not isinstance(answer, Refusal):
        return
    if answer.code in GRPC_DENIED:
        raise Unauthenticated(f"The server refuses the key: {answer}", remedy="Give a key with --api-key.")
    if answer.code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}:
        raise ModelNotFound(f"The server has no such model: {answer}", remedy="Name the model with --model.")


def _unknown(reply: Reply) -> bool:
    return httpx.codes.is_client_error(reply.status)


def _listed(body: bytes) -> tuple[str, ...]:
    """
    Give the names in an index of a repository, or in KServe's list of models.

    >>> _listed(b'[{"name": "a", "version": "1"}]'), _listed(b'{"models": ["b"]}'), _listed(b"?"), _listed(b"1")
    (('a',), ('b',), (), ())
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    entries = document.get("models") if isinstance(document, dict) else document
    listed = entries if isinstance(entries, list) else []
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in listed]
    return tuple(name for name in names if isinstance(name, str))
