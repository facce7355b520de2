"""Frozen read models for the hub, the console and the CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.views.assembly import Measurements, ModelFacts, fleet_view, model_row, servers_by_model
    from mendel.views.cards import CardView, card_of, render_card
    from mendel.views.ports import Views
    from mendel.views.read_models import FleetIssue, FleetView, IncidentView, ModelRow, ModelView
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "CardView",
    "FleetIssue",
    "FleetView",
    "IncidentView",
    "Measurements",
    "ModelFacts",
    "ModelRow",
    "ModelView",
    "Views",
    "card_of",
    "fleet_view",
    "model_row",
    "render_card",
    "servers_by_model",
]
