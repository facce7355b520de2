"""The routes for inference in plain JSON, and MLflow's route ``/invocations``."""

from __future__ import annotations

from mendel.serving import InferenceCall, PlainRequest, event_time_of, parse_csv, parse_plain, plain_body, read_json
from mendel.transports.rest.http_messages import Request, Response
from mendel.transports.rest.route_table import RestContext, Route
from mendel.values import Scope

_CSV = "text/csv"


async def predict(context: RestContext, request: Request) -> Response:
    """Predict the records of the body."""
    return await _infer(context, request, proba=False)


async def predict_proba(context: RestContext, request: Request) -> Response:
    """Predict the probability of each class for the records of the body."""
    return await _infer(context, request, proba=True)


async def invocations(context: RestContext, request: Request) -> Response:
    """Predict the rows of an MLflow scoring request, JSON or CSV; ``?model=`` names the model."""
    request.model = request.query.get("model")
    if request.content_type != _CSV:
        return await _infer(context, request, proba=False)
    body = await request.body(context.kernel.policy.max_body_bytes)
    signature = context.kernel.served(request.model).served.signature
    return await _answered(
        context,
        request,
        PlainRequest(input=parse_csv(body, signature, max_rows=context.kernel.policy.max_rows)),
        proba=False,
    )


async def _infer(context: RestContext, request: Request, *, proba: bool) -> Response:
    request.model = request.params.get("classifier", request.model)
    document = read_json(await request.body(context.kernel.policy.max_body_bytes))
    return await _answered(context, request, parse_plain(document), proba=proba)


async def _answered(context: RestContext, request: Request, asked: PlainRequest, *, proba: bool) -> Response:
    call = InferenceCall(
        model=request.model,
        input=asked.input,
        door="rest",
        proba=proba,
        correlation_id=request.correlation_id,
        key=request.header(b"x-routing-key") or asked.key,
        event_time=event_time_of(request.header(b"x-event-time")) or asked.event_time,
    )
    answer = await context.kernel.infer(call)
    request.model = answer.metadata.model
    return Response(body=plain_body(answer, proba=proba, single=asked.single))


PLAIN_ROUTES = (
    Route(method="POST", pattern="/v1/{classifier}/predict", scope=Scope.PREDICT, endpoint=predict),
    Route(method="POST", pattern="/v1/{classifier}/predict_proba", scope=Scope.PREDICT, endpoint=predict_proba),
    Route(method="POST", pattern="/predict", scope=Scope.PREDICT, endpoint=predict),
    Route(method="POST", pattern="/predict_proba", scope=Scope.PREDICT, endpoint=predict_proba),
    Route(method="POST", pattern="/invocations", scope=Scope.PREDICT, endpoint=invocations),
)
