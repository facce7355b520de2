"""The routes of Triton's statistics extension to the Open Inference Protocol v2."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.serving import ModelStatistics, version_number
from mendel.transports.rest.http_messages import Request, Response, json_response
from mendel.transports.rest.route_table import RestContext, Route
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsDocument:
    """The answer of the extension."""

    model_stats: tuple[ModelStatistics, ...]


async def statistics(context: RestContext, request: Request) -> Response:
    """Answer with the statistics of loaded versions: of one, of one model, or of all models."""
    params = request.params
    found = context.kernel.statistics(params.get("name"), version_number(params.get("version")))
    return json_response(StatisticsDocument(model_stats=found))


STATISTICS_ROUTES = tuple(
    Route(method="GET", pattern=pattern, scope=Scope.PREDICT, endpoint=statistics)
    for pattern in ("/v2/models/stats", "/v2/models/{name}/stats", "/v2/models/{name}/versions/{version}/stats")
)
