"""Decode JSON from callers, with a limit on its depth; errors name the feature that contains NaN or Infinity."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from mendel.errors import InvalidRequest
from mendel.serving.request_size import check_json_size
from mendel.values import MAX_DEPTH

_LOOKED_AT_BYTES = 1 << 20
_CONTAINERS = (list, dict)
_SPACED, _SPACED_BYTES = re.compile(r'"[ \t\r\n]+:'), re.compile(rb'"[ \t\r\n]+:')
_CONTAINER_TYPES = frozenset(_CONTAINERS)
_decode = msgspec.json.Decoder().decode


def read_json(body: bytes | str) -> Any:
    """
    Decode JSON; a byte order mark at the beginning is skipped.

    Raises:
        InvalidRequest: The body is not JSON, contains NaN or Infinity, is nested deeper than 64 levels, or names a key
            twice in one object.
        TooLarge: The body has more than a million lists and objects, or more than ten million values.
    """
    text = without_mark(body)
    check_json_size(text)
    try:
        document = _decode(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # msgspec's own errors, and text that is not Unicode
        raise malformed(text, error) from error
    check_depth(document, text)
    check_keys(document, text)
    return document


def check_keys(document: Any, text: bytes | str, *, beside: int = 0) -> None:
    """
    Check that no object in *text*, from which *document* was read, names a key twice; only the last value would count.

    Args:
        beside: The number of keys in *text* that *document* does not contain.

    Raises:
        InvalidRequest: An object names a key twice; the message names the key.
    """
    keys = _keys(document) + beside
    colons = text.count(b":") if isinstance(text, bytes) else text.count(":")
    if colons == keys:
        return  # every key has its colon, so each counts
    if isinstance(text, bytes):
        ends, spaced = text.count(b'":'), _SPACED_BYTES.search(text) is not None
    else:
        ends, spaced = text.count('":'), _SPACED.search(text) is not None
    if spaced or ends != keys:
        json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(name for name, many in Counter(name for name, _ in pairs).items() if many > 1)
        raise InvalidRequest(
            f"The key {twice!r} occurs twice in one object.", feature=twice, remedy="Send each key once."
        )
    return made


def _keys(document: Any) -> int:
    """
    Count the keys of all objects in *document*; a list whose first element is a plain value is taken to hold no object.

    The count equals the number of colons behind a quotation mark in the text, unless a text contains such a colon, a
    space stands before a colon, or an object names a key twice.
    """
    if isinstance(document, dict):
        count, inner = len(document), list(document.values())
    elif isinstance(document, list) and document and isinstance(document[0], _CONTAINERS):
        count, inner = 0, document
    else:
        return 0
    if _CONTAINER_TYPES.isdisjoint(map(type, inner)):
        return count
    return count + sum(_keys(value) for value in inner if isinstance(value, _CONTAINERS))


def without_mark(body: bytes | str) -> bytes | str:
    """Give *body* without the byte order mark that some editors and clients write before UTF-8."""
    if isinstance(body, str):
        return body.removeprefix("\ufeff")
    return body.removeprefix(codecs.BOM_UTF8)


def check_depth(document: Any, text: bytes | str) -> None:
    """
    Check that *document*, which was read from *text*, has at most 64 levels of lists and objects.

    Raises:
        InvalidRequest: The document has more levels, which would overflow the stack of recursive functions.
    """
    opened = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    if opened > MAX_DEPTH:
        check_levels(document)


def check_levels(document: Any) -> None:
    """Check that *document*, decoded from any format, has at most 64 levels of lists and objects."""
    level = [document] if isinstance(document, _CONTAINERS) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, _CONTAINERS)
        ]
    if level:
        raise _too_deep()


def malformed(body: bytes | str, error: Exception) -> InvalidRequest:
    """
    Build the error for a *body* that is not JSON; if the body contains NaN or Infinity, the error names the feature.

    >>> print(malformed('{"records": [{"age": NaN}]}', ValueError("invalid character")))
    Feature 'age' is nan, not a finite number.
    """
    odd = None
    if len(body) <= _LOOKED_AT_BYTES:
        try:
            odd = next((place for place in _floats(json.loads(body)) if not math.isfinite(place[1])), None)
        except (ValueError, RecursionError):
            odd = None
    if odd is None:
        return InvalidRequest(f"The body is not JSON: {error}.")
    feature, number = odd
    where = "A value" if feature is None else f"Feature {feature!r}"
    return InvalidRequest(f"{where} is {number}, not a finite number.", feature=feature)


def _floats(document: Any) -> Iterator[tuple[str | None, float]]:
    """Yield every float in *document* with the key of the innermost object that contains it."""
    waiting: list[tuple[str | None, Any]] = [(None, document)]
    while waiting:
        feature, node = waiting.pop()
        if isinstance(node, float):
            yield feature, node
        elif isinstance(node, dict):
            waiting.extend(reversed(node.items()))
        elif isinstance(node, list):
            waiting.extend((feature, value) for value in reversed(node))


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.", remedy="Send JSON with fewer levels.")
