"""The Open Inference Protocol v2 over HTTP, with the binary-tensor extension and the model repository."""

from __future__ import annotations

from mendel.errors import NotReady, VersionNotFound
from mendel.serving import InferenceCall, input_specs, output_specs, output_tensors
from mendel.transports.rest.http_messages import Request, Response, json_response
from mendel.transports.rest.route_table import RestContext, Route
from mendel.transports.rest.v2_bodies import HEADER_LENGTH, read_request, write_response
from mendel.values import ModelName, Scope

EXTENSIONS = ("binary_tensor_data", "model_repository")


async def server_metadata(context: RestContext, _: Request) -> Response:
    """Name, version and extensions of the server."""
    return json_response({"name": "mendel", "version": context.kernel.version, "extensions": EXTENSIONS})


async def live(_: RestContext, __: Request) -> Response:
    """The event loop turns."""
    return json_response({"live": True})


async def ready(context: RestContext, _: Request) -> Response:
    """Every deployed model serves a version that answered its golden input."""
    state = context.kernel.readiness()
    return json_response({"ready": state.ready}, status=200 if state.ready else 503)


async def model_ready(context: RestContext, request: Request) -> Response:
    """The model, or that version of it, answers."""
    try:
        served = context.kernel.served(request.params["name"], version_of(request))
    except NotReady:
        return json_response({"name": request.params["name"], "ready": False}, status=503)
    return json_response({"name": served.ref.model, "ready": True})


async def model_metadata(context: RestContext, request: Request) -> Response:
    """Versions, inputs and outputs of a model."""
    served = context.kernel.served(request.params["name"], version_of(request))
    tensors = {
        side: [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in specs]
        for side, specs in (("inputs", input_specs(served)), ("outputs", output_specs(served)))
    }
    versions = context.kernel.deployed(served.ref.model).registered
    body = {"name": served.ref.model, "versions": versions, "platform": f"mendel_{served.served.flavor}", **tensors}
    return json_response(body)


async def infer(context: RestContext, request: Request) -> Response:
    """Infer for the tensors of the body."""
    request.model = request.params["name"]
    body = await request.body(context.kernel.policy.max_body_bytes)
    asked = read_request(body, request.header(HEADER_LENGTH))
    call = InferenceCall(
        model=request.model,
        version=version_of(request),
        input=asked.input,
        door="rest",
        correlation_id=request.correlation_id,
        key=request.header(b"x-routing-key") or asked.key,
        event_time=asked.event_time,
    )
    answer = await context.kernel.infer(call)
    return write_response(answer, asked, output_tensors(answer, tuple(asked.outputs)))


async def repository_index(context: RestContext, _: Request) -> Response:
    """Every version that is loaded here, and which cannot be."""
    return json_response(_index(context))


async def repository_load(context: RestContext, request: Request) -> Response:
    """Load what is desired of a model, on every process; answers when that is done."""
    await context.kernel.repository_control().load(_known(context, request.params["name"]))
    return json_response({})


async def repository_unload(context: RestContext, request: Request) -> Response:
    """Free a model's memory, on every process; answers when that is done."""
    await context.kernel.repository_control().unload(_known(context, request.params["name"]))
    return json_response({})


def version_of(request: Request) -> int | None:
    """
    The version in the path, where it holds one.

    Raises:
        VersionNotFound: It is no number.
    """
    text = request.params.get("version")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise VersionNotFound(f"There is no version {text!r}.", remedy="Versions count from 1.")
    return int(text)


def _known(context: RestContext, name: str) -> ModelName:
    return context.kernel.deployed(name).deployment.model


def _index(context: RestContext) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = []
    for model in context.kernel.status().models:
        entries.extend(
            {"name": model.model, "version": str(v.version or ""), "state": "READY", "reason": ", ".join(v.roles)}
            for v in model.versions
        )
        if not model.versions:
            entries.append({"name": model.model, "version": "", "state": "UNAVAILABLE", "reason": model.error or ""})
    return entries


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
