"""Read models for hub, console and CLI."""

from mendel.views.cards import CardView, card_of, render_card

__all__ = ["CardView", "card_of", "render_card"]
