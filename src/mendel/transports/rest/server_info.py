"""The routes for health, models, status, metrics and documentation of the server."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mendel.serving import Acceleration, Kernel, ModelStatus
from mendel.transports.rest.http_messages import Request, Response, json_response
from mendel.transports.rest.route_table import RestContext, Route
from mendel.values import Scope, to_builtins
from mendel.values.library_versions import LibraryVersion

_DOCS = """<!doctype html><html lang="en"><meta charset="utf-8"><title>TITLE</title>
<style>body{font:16px/1.5 system-ui;max-width:46rem;margin:3rem auto;padding:0 1rem}
td{padding:.2em 1em .2em 0;vertical-align:top}</style><h1>TITLE</h1><p>Routes of this server
(<a href="/openapi.json">openapi.json</a>):</p><table id="t"></table><script>
const cell=(r,t)=>r.insertCell().textContent=t;
fetch("/openapi.json").then(r=>r.json()).then(d=>{for(const[p,ms]of Object.entries(d.paths))
for(const[m,o]of Object.entries(ms)){const r=document.getElementById("t").insertRow();
cell(r,m.toUpperCase());cell(r,p);cell(r,o.summary)}})</script></html>"""
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


async def alive(_: RestContext, __: Request) -> Response:
    """Answer that the server is live."""
    return json_response({"status": "ok"})


async def health(context: RestContext, _: Request) -> Response:
    """Answer ``{"status": "ok"}`` when the server is ready, else 503 with the failed checks."""
    state = context.kernel.readiness()
    if state.ready:
        return json_response({"status": "ok"})
    failing = [{"name": check.name, "detail": check.detail} for check in state.checks if not check.passed]
    return json_response({"status": state.state, "checks": failing}, status=503, headers=((b"retry-after", b"1"),))


async def model_info(context: RestContext, request: Request) -> Response:
    """Answer with metadata, inputs and classes of the model in ``?model=``, else of the default model."""
    return json_response(_model_info(context.kernel, request.query.get("model")))


async def info(context: RestContext, _: Request) -> Response:
    """Answer with the server's version, the served models, and the reason why other deployed models are not served."""
    kernel = context.kernel
    states = kernel.status().models
    return json_response(
        ServerInfo(
            version=kernel.version,
            models=tuple(_model_info(kernel, state.model) for state in states if _answers(state)),
            not_ready=tuple(NotReadyInfo(name=s.model, reason=_reason(s)) for s in states if not s.ready),
        )
    )


async def status(context: RestContext, _: Request) -> Response:
    """Answer with the readiness, the loaded versions, their queues and circuit breakers, and the prediction log."""
    return json_response(to_builtins(context.kernel.status()))


async def metrics(context: RestContext, _: Request) -> Response:
    """Answer with the metrics of all processes of the server in Prometheus' text format."""
    return Response(body=context.kernel.metrics().encode(), content_type=_METRICS_TYPE)


async def docs(context: RestContext, _: Request) -> Response:
    """Answer with an HTML page that lists the routes."""
    page = _DOCS.replace("TITLE", html.escape(context.policy.title))
    return Response(body=page.encode(), content_type=b"text/html; charset=utf-8")


async def openapi(context: RestContext, _: Request) -> Response:
    """Answer with the OpenAPI 3.1 document of the routes."""
    return json_response(openapi_document(context.routes, context.kernel.version, title=context.policy.title))


def openapi_document(routes: tuple[Route, ...], version: str, *, title: str = "Mendel") -> dict[str, Any]:
    """Build the OpenAPI document of *routes*; the first docstring line of each endpoint is its summary."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route)
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    components = {
        "responses": {
            "Error": {
                "description": "The request failed; the body says why.",
                "content": {"application/json": {"schema": error}},
            }
        },
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    }
    about = {"title": title, "version": version}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": components}


def _operation(route: Route) -> dict[str, Any]:
    names = [segment[1:-1] for segment in route.segments if segment.startswith("{")]
    scopes = [] if route.scope is None else [route.scope.value]
    operation: dict[str, Any] = {
        "summary": (route.endpoint.__doc__ or "").strip().splitlines()[0],
        "operationId": f"{route.method.lower()}{route.pattern.translate(str.maketrans('/', '_', '{}'))}",
        "parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names],
        "responses": {
            "200": {"description": "The request succeeded."},
            "default": {"$ref": "#/components/responses/Error"},
        },
        "security": [{"bearer": scopes}, {"key": scopes}] if scopes else [],
    }
    if route.method == "POST":
        operation["requestBody"] = {"content": {"application/json": {"schema": {}}}}
    return operation


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureInfo:
    """One input of a model."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """
    A served model; ``metadata`` is the ``metadata`` section of its answers.

    Attributes:
        other_libraries: The libraries whose installed version differs from the version that wrote the model.
        acceleration: Whether an ONNX graph answers; None where ``serving.accelerate`` is ``off``.
        backend: ``thread`` or ``process``: where the model runs (``serving.backend``); ``remote`` for other servers.
    """

    name: str
    version: str | None
    task: str
    classes: tuple[Any, ...] | None
    features: tuple[FeatureInfo, ...]
    metadata: Mapping[str, Any]
    other_libraries: tuple[LibraryVersion, ...] = ()
    acceleration: Acceleration | None = None
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotReadyInfo:
    """A deployed model that is not ready, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """A server, the models that it serves, and the deployed models that are not ready."""

    version: str
    models: tuple[ModelInfo, ...]
    not_ready: tuple[NotReadyInfo, ...]
    name: str = "mendel"


def _answers(state: ModelStatus) -> bool:
    return state.ready and state.version_serving is not None


def _reason(state: ModelStatus) -> str:
    return "unloaded" if state.unloaded else state.error or "not loaded yet"


def _model_info(kernel: Kernel, model: str | None) -> ModelInfo:
    version = kernel.served(model)
    signature = version.served.signature
    columns = () if signature is None else signature.inputs
    return ModelInfo(
        name=version.ref.model,
        version=version.metadata.label,
        task=version.served.task,
        classes=version.metadata.classes,
        features=tuple(FeatureInfo(name=c.name, type=c.type.value, required=c.required) for c in columns),
        metadata=version.metadata.document,
        other_libraries=version.artifact.descriptor.other_libraries,
        acceleration=version.artifact.descriptor.acceleration,
        backend=version.artifact.backend.place.backend,
    )


ABOUT_ROUTES = (
    Route(method="GET", pattern="/healthz", scope=None, endpoint=alive),
    Route(method="GET", pattern="/health", scope=None, endpoint=health),
    Route(method="GET", pattern="/info", scope=Scope.PREDICT, endpoint=info),
    Route(method="GET", pattern="/model/info", scope=Scope.PREDICT, endpoint=model_info),
    Route(method="GET", pattern="/status", scope=Scope.READ, endpoint=status),
    Route(method="GET", pattern="/metrics", scope=Scope.READ, endpoint=metrics),
    Route(method="GET", pattern="/docs", scope=None, endpoint=docs),
    Route(method="GET", pattern="/openapi.json", scope=None, endpoint=openapi),
)
