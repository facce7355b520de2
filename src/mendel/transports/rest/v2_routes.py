"""The routes of the Open Inference Protocol v2, with its extensions for binary tensors and the model repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mendel.errors import NotReady
from mendel.serving import InferenceCall, Kernel, TensorSpec, input_specs, output_specs, output_tensors, version_number
from mendel.transports.rest.http_messages import Request, Response, json_response
from mendel.transports.rest.route_table import RestContext, Route
from mendel.transports.rest.v2_bodies import HEADER_LENGTH, read_request, write_response
from mendel.values import ModelName, Scope

EXTENSIONS = ("binary_tensor_data", "model_repository")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """The metadata of a model, with the field names of the protocol."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryEntry:
    """A loaded version, whose ``reason`` is its roles; or a model without one, whose ``reason`` is the load error."""

    name: str
    version: str
    state: str
    reason: str


async def server_metadata(context: RestContext, _: Request) -> Response:
    """Answer with the name, version and protocol extensions of the server."""
    return json_response({"name": "mendel", "version": context.kernel.version, "extensions": EXTENSIONS})


async def live(_: RestContext, __: Request) -> Response:
    """Answer that the server is live."""
    return json_response({"live": True})


async def ready(context: RestContext, _: Request) -> Response:
    """Answer 200 when every deployed model has a loaded version, else 503."""
    state = context.kernel.readiness()
    return json_response({"ready": state.ready}, status=200 if state.ready else 503)


async def model_ready(context: RestContext, request: Request) -> Response:
    """Answer 200 when the model, or the named version of the model, can predict."""
    try:
        served = context.kernel.served(request.params["name"], version_number(request.params.get("version")))
    except NotReady:
        return json_response({"name": request.params["name"], "ready": False}, status=503)
    return json_response({"name": served.ref.model, "ready": True})


async def model_metadata(context: RestContext, request: Request) -> Response:
    """Answer with the versions, inputs and outputs of a model."""
    served = context.kernel.served(request.params["name"], version_number(request.params.get("version")))
    metadata = ModelMetadata(
        name=served.ref.model,
        versions=context.kernel.deployed(served.ref.model).registered,
        platform=f"mendel_{served.served.flavor}",
        inputs=input_specs(served),
        outputs=output_specs(served),
    )
    return json_response(metadata)


async def infer(context: RestContext, request: Request) -> Response:
    """Predict the rows in the tensors of the body."""
    request.model = request.params["name"]
    body = await request.body(context.kernel.policy.max_body_bytes)
    asked = read_request(body, request.header(HEADER_LENGTH))
    call = InferenceCall(
        model=request.model,
        version=version_number(request.params.get("version")),
        input=asked.input,
        door="rest",
        correlation_id=request.correlation_id,
        key=request.header(b"x-routing-key") or asked.key,
        event_time=asked.event_time,
    )
    answer = await context.kernel.infer(call)
    return write_response(answer, asked, output_tensors(answer, tuple(asked.outputs)))


async def repository_index(context: RestContext, _: Request) -> Response:
    """List the loaded versions, and the models without a loaded version."""
    return json_response(tuple(_index(context.kernel)))


async def repository_load(context: RestContext, request: Request) -> Response:
    """Load the deployed versions of a model; answer when all processes of the server have loaded them."""
    await context.kernel.repository_control().load(_known(context, request.params["name"]))
    return json_response({})


async def repository_unload(context: RestContext, request: Request) -> Response:
    """Unload a model; answer when all processes of the server have unloaded the model."""
    await context.kernel.repository_control().unload(_known(context, request.params["name"]))
    return json_response({})


def _known(context: RestContext, name: str) -> ModelName:
    return context.kernel.deployed(name).deployment.model


def _index(kernel: Kernel) -> Iterator[RepositoryEntry]:
    for model in kernel.status().models:
        for version in model.versions:
            yield RepositoryEntry(
                name=model.model, version=str(version.version or ""), state="READY", reason=", ".join(version.roles)
            )
        if not model.versions:
            yield RepositoryEntry(name=model.model, version="", state="UNAVAILABLE", reason=model.error or "")


V2_ROUTES = (
    Route(method="GET", pattern="/v2", scope=Scope.PREDICT, endpoint=server_metadata),
    Route(method="GET", pattern="/v2/health/live", scope=None, endpoint=live),
    Route(method="GET", pattern="/v2/health/ready", scope=None, endpoint=ready),
    Route(method="GET", pattern="/v2/models/{name}", scope=Scope.PREDICT, endpoint=model_metadata),
    Route(method="GET", pattern="/v2/models/{name}/ready", scope=None, endpoint=model_ready),
    Route(method="POST", pattern="/v2/models/{name}/infer", scope=Scope.PREDICT, endpoint=infer),
    Route(method="GET", pattern="/v2/models/{name}/versions/{version}", scope=Scope.PREDICT, endpoint=model_metadata),
    Route(method="GET", pattern="/v2/models/{name}/versions/{version}/ready", scope=None, endpoint=model_ready),
    Route(method="POST", pattern="/v2/models/{name}/versions/{version}/infer", scope=Scope.PREDICT, endpoint=infer),
    Route(method="POST", pattern="/v2/repository/index", scope=Scope.READ, endpoint=repository_index),
    Route(method="GET", pattern="/v2/repository/index", scope=Scope.READ, endpoint=repository_index),
    Route(method="POST", pattern="/v2/repository/models/{name}/load", scope=Scope.DEPLOY, endpoint=repository_load),
    Route(method="POST", pattern="/v2/repository/models/{name}/unload", scope=Scope.DEPLOY, endpoint=repository_unload),
)
