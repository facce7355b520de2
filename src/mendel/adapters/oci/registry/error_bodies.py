"""Read error responses of a registry for use in error messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

_MAX_BYTES: Final = 64 << 10
_MAX_CHARACTERS: Final = 300


def error_message(response: httpx.Response, *, secrets: Iterable[str]) -> str:
    """
    Give the response's error message as ``: message``, at most 300 characters, with *secrets* masked; empty if none.
    """
    content = bytearray()
    try:
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > _MAX_BYTES:
                break
    except httpx.HTTPError:
        return ""
    text = _text(bytes(content))
    for secret in tuple(secrets):
        text = text.replace(secret, "***")
    return f": {text[:_MAX_CHARACTERS]}" if text else ""


def retry_after(headers: httpx.Headers) -> timedelta | None:
    """
    Give the pause of ``Retry-After`` (seconds, or a date relative to the ``Date`` header); None if absent or invalid.
    """
    wish = headers.get("retry-after", "").strip()
    if wish.isdecimal():
        return timedelta(seconds=min(int(wish), 10**9))
    try:
        return max(timedelta(0), parsedate_to_datetime(wish) - parsedate_to_datetime(headers.get("date", "")))
    except (ValueError, TypeError):
        return None


def _text(content: bytes) -> str:
    try:
        tree: Any = json.loads(content)
        entries = tree["errors"]
        text = "; ".join(f"{entry.get('message') or ''} ({entry.get('code') or ''})".strip() for entry in entries)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = content.decode(errors="replace") if not content.lstrip().startswith(b"<") else ""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
