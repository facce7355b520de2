"""Frozen read models for hub, console and CLI."""

from mendel.views.cards import CardView, card_of, render_card
from mendel.views.nouns import FleetView, HistoryRow, IncidentView, ModelRow, ModelView
from mendel.views.views import Models, Views

__all__ = [
    "CardView",
    "FleetView",
    "HistoryRow",
    "IncidentView",
    "ModelRow",
    "ModelView",
    "Models",
    "Views",
    "card_of",
    "render_card",
]
