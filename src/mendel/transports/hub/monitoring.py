"""Labels that come to the hub, and what the prediction log amounts to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from mendel.predictions import parse_labels
from mendel.transports.hub.access import Labeller, Reader
from mendel.transports.hub.answers import NounBody, NounResponse
from mendel.transports.hub.parts import HubParts
from mendel.values import ModelName


def monitoring_routes(parts: HubParts) -> APIRouter:
    """The routes of the log."""
    routes = APIRouter(tags=["monitoring"])

    @routes.post("/monitoring/labels", status_code=202)
    def labels(_: Labeller, body: NounBody, content_type: Annotated[str, Header()] = "application/json") -> Response:
        """Take labels, one or many; unknown ids wait for their predictions."""
        rows = parse_labels(body, content_type=content_type, received_at=parts.clock())
        parts.intake.accept_labels(rows)
        return NounResponse({"accepted": len(rows)}, status_code=202)

    @routes.get("/monitoring/stats")
    def stats(_: Reader, model: str) -> Response:
        """Totals, the last 100, label coverage."""
        return NounResponse(parts.log.stats(ModelName(model), parts.clock()))

    return routes
