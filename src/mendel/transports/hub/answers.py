"""Nouns to responses."""

from __future__ import annotations

from starlette.responses import Response

from mendel.values import to_json


class NounResponse(Response):
    """One noun as JSON, in the house's one encoding."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode *content*."""
        return to_json(content)
