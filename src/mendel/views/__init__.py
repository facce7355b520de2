"""Frozen read models for console, API and CLI."""

from mendel.views.nouns import FleetView, HistoryRow, IncidentView, ModelRow, ModelView
from mendel.views.views import Models, Views

__all__ = ["FleetView", "HistoryRow", "IncidentView", "ModelRow", "ModelView", "Models", "Views"]
