"""What a registry says when it refuses, fit to be repeated."""

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
    """The message of an error with a colon in front, cut, without *secrets* that it repeats; empty where none is."""
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
    """The pause the registry wishes for, in seconds or as a date, which is measured against its own clock."""
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
