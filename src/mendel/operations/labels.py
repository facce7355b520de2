"""Operations on labels and on the statistics of the prediction log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from mendel.operations.hub_parts import Call
from mendel.operations.operation import JSON_TYPE, BodyKind, Header, operation
from mendel.operations.requests import OneModel
from mendel.predictions import LogStats, parse_labels
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The true outcome of one prediction."""

    prediction_id: str
    true_label: str | int | float | bool
    label_source: str | None = None
    label_timestamp: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The JSON body of a request that logs labels."""

    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostLabels:
    """The request to log labels, as JSON (a label, a list, or ``{"labels": [...]}``), NDJSON, or CSV with a header."""

    body: bytes
    content_type: Annotated[str, Header("content-type")] = JSON_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The number of labels that were stored."""

    accepted: int


LABELS = BodyKind(max_bytes=4 << 20, media_types={JSON_TYPE: Labels, "application/x-ndjson": str, "text/csv": str})


@operation("POST", "/monitoring/labels", scope=Scope.LABEL, status=202, body=LABELS)
def label(call: Call, request: PostLabels) -> Accepted:
    """Log labels; a label whose prediction is not in the log yet is joined when the prediction arrives."""
    rows = parse_labels(request.body, content_type=request.content_type, received_at=call.hub.clock())
    call.hub.intake.accept_labels(rows)
    return Accepted(accepted=len(rows))


@operation("GET", "/monitoring/stats", scope=Scope.READ)
def stats(call: Call, request: OneModel) -> LogStats:
    """Count the predictions and labels of a model."""
    return call.hub.log.stats(request.model, call.hub.clock())
