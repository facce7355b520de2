"""The routes of the Open Inference Protocol v2, with its extensions for binary tensors and the model repository."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from mendel.errors import InvalidRequest, NotReady
from mendel.serving import (
    InferenceAnswer,
    InferenceCall,
    TensorSpec,
    input_specs,
    output_specs,
    output_tensors,
    read_json,
    version_number,
)
from mendel.transports.protocol_extensions import path_to_load, protocol_extensions, repository_entries
from mendel.transports.rest.errors import retry_after
from mendel.transports.rest.http_messages import Request, Response, json_response
from mendel.transports.rest.prediction_endpoint import Asked, PredictionEndpoint
from mendel.transports.rest.route_table import RestContext, Route
from mendel.transports.rest.v2_bodies import HEADER_LENGTH, V2Request, read_request, write_response
from mendel.values import ModelName, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """The metadata of a model, with the field names of the protocol."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


async def server_metadata(context: RestContext, _: Request) -> Response:
    """Answer with the name, version and protocol extensions of the server."""
    kernel = context.kernel
    extensions = ("binary_tensor_data", *protocol_extensions(kernel))
    return json_response({"name": "mendel", "version": kernel.version, "extensions": extensions})


async def live(_: RestContext, __: Request) -> Response:
    """Answer that the server is live."""
    return json_response({"live": True})


async def ready(context: RestContext, _: Request) -> Response:
    """Answer 200 once every deployed model has been loaded or has failed to load on this server, else 503."""
    state = context.kernel.readiness()
    if state.ready:
        return json_response({"ready": True})
    return json_response({"ready": False}, status=503, headers=((b"retry-after", b"1"),))


async def model_ready(context: RestContext, request: Request) -> Response:
    """Answer 200 when the model, or the named version of the model, can predict; else 503 with the reason."""
    try:
        served = context.kernel.served(request.params["name"], version_number(request.params.get("version")))
    except NotReady as error:
        document = {"name": request.params["name"], "ready": False, "error": str(error)}
        return json_response(document, status=503, headers=retry_after(error))
    reason = served.unready
    if reason is not None:
        return json_response({"name": served.ref.model, "ready": False, "error": reason}, status=503)
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


def infer(_: RestContext, request: Request, body: bytes) -> Asked:
    """Predict the rows in the tensors of the body."""
    asked = read_request(body, request.header(HEADER_LENGTH))
    call = InferenceCall(
        model=request.model,
        version=version_number(request.params.get("version")),
        input=asked.input,
        door="rest",
        correlation_id=request.correlation_id,
        key=request.header(b"x-routing-key") or asked.key,
        event_time=asked.event_time,
        caller=request,
    )
    return call, partial(_answer, asked=asked)


def _answer(answer: InferenceAnswer, *, asked: V2Request) -> Response:
    return write_response(answer, asked, output_tensors(answer, tuple(asked.outputs)))


async def repository_index(context: RestContext, _: Request) -> Response:
    """List the loaded versions, and the models without a loaded version."""
    return json_response(tuple(repository_entries(context.kernel)))


async def repository_load(context: RestContext, request: Request) -> Response:
    """Load a model's deployed versions, or the model at ``parameters.model_path``, in every process of the server."""
    control = context.kernel.repository_control()
    request.model = request.params["name"]
    await control.load(ModelName(request.model), path=await _model_path(context, request))
    return json_response({})


async def repository_unload(context: RestContext, request: Request) -> Response:
    """Unload a model in every process of the server."""
    control = context.kernel.repository_control()
    request.model = request.params["name"]
    await control.unload(ModelName(request.model))
    return json_response({})


async def _model_path(context: RestContext, request: Request) -> str | None:
    body = await request.body(context.kernel.policy.max_body_bytes)
    if not body:
        return None
    document = read_json(body)
    parameters = document.get("parameters", {}) if isinstance(document, dict) else None
    if not isinstance(parameters, dict):
        raise InvalidRequest(
            "The body of the load request is invalid.",
            remedy='Send an empty body, or {"parameters": {"model_path": "..."}}.',
        )
    return path_to_load(parameters)


V2_ROUTES = (
    Route(method="GET", pattern="/v2", scope=Scope.PREDICT, endpoint=server_metadata),
    Route(method="GET", pattern="/v2/health/live", scope=None, endpoint=live),
    Route(method="GET", pattern="/v2/health/ready", scope=None, endpoint=ready),
    Route(method="GET", pattern="/v2/models/{name}", scope=Scope.PREDICT, endpoint=model_metadata),
    Route(method="GET", pattern="/v2/models/{name}/ready", scope=None, endpoint=model_ready),
    Route(method="POST", pattern="/v2/models/{name}/infer", scope=Scope.PREDICT, endpoint=PredictionEndpoint(infer)),
    Route(method="GET", pattern="/v2/models/{name}/versions/{version}", scope=Scope.PREDICT, endpoint=model_metadata),
    Route(method="GET", pattern="/v2/models/{name}/versions/{version}/ready", scope=None, endpoint=model_ready),
    Route(
        method="POST",
        pattern="/v2/models/{name}/versions/{version}/infer",
        scope=Scope.PREDICT,
        endpoint=PredictionEndpoint(infer),
    ),
    Route(method="POST", pattern="/v2/repository/index", scope=Scope.READ, endpoint=repository_index),
    Route(method="GET", pattern="/v2/repository/index", scope=Scope.READ, endpoint=repository_index),
    Route(method="POST", pattern="/v2/repository/models/{name}/load", scope=Scope.DEPLOY, endpoint=repository_load),
    Route(method="POST", pattern="/v2/repository/models/{name}/unload", scope=Scope.DEPLOY, endpoint=repository_unload),
)
