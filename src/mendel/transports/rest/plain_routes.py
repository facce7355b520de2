"""The routes for inference in plain JSON, and MLflow's route ``/invocations``."""

from __future__ import annotations

from functools import partial

from mendel.serving import (
    InferenceAnswer,
    InferenceCall,
    PlainRequest,
    event_time_of,
    parse_csv,
    parse_plain,
    plain_body,
    read_json,
)
from mendel.transports.rest.http_messages import Request, Response
from mendel.transports.rest.prediction_endpoint import Asked, PredictionEndpoint
from mendel.transports.rest.route_table import RestContext, Route
from mendel.values import Scope

_CSV = "text/csv"


def predict(_: RestContext, request: Request, body: bytes) -> Asked:
    """Predict the records of the body."""
    return _asked(request, parse_plain(read_json(body)), proba=False)


def predict_proba(_: RestContext, request: Request, body: bytes) -> Asked:
    """Predict the probability of each class for the records of the body."""
    return _asked(request, parse_plain(read_json(body)), proba=True)


def invocations(context: RestContext, request: Request, body: bytes) -> Asked:
    """Predict the rows of an MLflow scoring request, JSON or CSV; ``?model=`` names the model."""
    request.model = request.query.get("model")
    if request.content_type != _CSV:
        return _asked(request, parse_plain(read_json(body)), proba=False)
    signature = context.kernel.served(request.model).served.signature
    rows = parse_csv(body, signature, max_rows=context.kernel.policy.max_rows)
    return _asked(request, PlainRequest(input=rows), proba=False)


def _asked(request: Request, asked: PlainRequest, *, proba: bool) -> Asked:
    call = InferenceCall(
        model=request.model,
        input=asked.input,
        door="rest",
        proba=proba,
        correlation_id=request.correlation_id,
        key=request.header(b"x-routing-key") or asked.key,
        event_time=event_time_of(request.header(b"x-event-time")) or asked.event_time,
        caller=request,
    )
    return call, partial(_answer, proba=proba, single=asked.single)


def _answer(answer: InferenceAnswer, *, proba: bool, single: bool) -> Response:
    return Response(body=plain_body(answer, proba=proba, single=single))


PLAIN_ROUTES = (
    Route(method="POST", pattern="/v1/{classifier}/predict", scope=Scope.PREDICT, endpoint=PredictionEndpoint(predict)),
    Route(
        method="POST",
        pattern="/v1/{classifier}/predict_proba",
        scope=Scope.PREDICT,
        endpoint=PredictionEndpoint(predict_proba),
    ),
    Route(method="POST", pattern="/predict", scope=Scope.PREDICT, endpoint=PredictionEndpoint(predict)),
    Route(method="POST", pattern="/predict_proba", scope=Scope.PREDICT, endpoint=PredictionEndpoint(predict_proba)),
    Route(method="POST", pattern="/invocations", scope=Scope.PREDICT, endpoint=PredictionEndpoint(invocations)),
)
