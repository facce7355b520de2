"""The routes below ``/monitoring``: log external predictions and labels, and fetch prediction statistics."""

from __future__ import annotations

from mendel.errors import HubUnavailable, InvalidRequest
from mendel.predictions import parse_labels
from mendel.serving import model_name_of, read_json, version_number
from mendel.transports.rest.http_messages import Request, Response, json_response
from mendel.transports.rest.route_table import RestContext, Route
from mendel.values import Scope


async def predictions(context: RestContext, request: Request) -> Response:
    """Log predictions that a program outside Mendel made."""
    document = read_json(await request.body(context.kernel.policy.max_body_bytes))
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be an object with the fields 'model', 'records' and 'predictions'.")
    request.model = model_name_of(document.get("model"))
    version = version_number(document.get("version"))
    ids = context.kernel.log_external_predictions(request.model, version, document)
    return json_response({"logged": len(ids), "prediction_ids": ids}, status=202)


async def labels(context: RestContext, request: Request) -> Response:
    """Log labels (true outcomes of predictions), given as JSON, NDJSON or CSV."""
    body = await request.body(context.kernel.policy.max_body_bytes)
    content_type = request.header(b"content-type") or "application/json"
    rows = parse_labels(body, content_type=content_type, received_at=context.kernel.clock())
    context.kernel.log_labels(rows)
    return json_response({"accepted": len(rows)}, status=202)


async def stats(context: RestContext, request: Request) -> Response:
    """Fetch prediction counts, label coverage and the last 100 predictions from the hub."""
    if context.statistics is None:
        raise HubUnavailable(
            "This server has no hub, which keeps the prediction statistics.",
            remedy="Start the server with: mendel serve --hub URL.",
        )
    return Response(body=await context.statistics(request.query, request.credential))


MONITORING_ROUTES = (
    Route(method="POST", pattern="/monitoring/predictions", scope=Scope.LABEL, endpoint=predictions),
    Route(method="POST", pattern="/monitoring/labels", scope=Scope.LABEL, endpoint=labels),
    Route(method="GET", pattern="/monitoring/stats", scope=Scope.READ, endpoint=stats),
)
