"""Frozen read models for hub, console and CLI."""

from mendel.views.cards import CardView, card_of, render_card
from mendel.views.queries import Views
from mendel.views.read_models import FleetView, HistoryRow, IncidentView, ModelRow, ModelView

__all__ = [
    "CardView",
    "FleetView",
    "HistoryRow",
    "IncidentView",
    "ModelRow",
    "ModelView",
    "Views",
    "card_of",
    "render_card",
]
