"""Encode dataclasses as JSON and decode them: the one codec for network, database and files."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeVar

import msgspec

from mendel.errors import InvalidValue, MendelError
from mendel.values.model_names import Digest, ModelName, VersionUuid

T = TypeVar("T")
Json = dict[str, Any] | list[Any] | str | int | float | bool | None
_TEXTUAL: tuple[type[str], ...] = (ModelName, VersionUuid, Digest)

MAX_DEPTH = 64
"""The largest number of nested lists and objects in JSON from outside."""
MAX_TEXT = 100_000
"""The largest number of characters in one string of JSON from outside."""


def _to_builtin(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    if type(value).__module__ == "numpy":  # numpy is not imported here: most commands never use an array
        return value.tolist()  # type: ignore[attr-defined]
    raise NotImplementedError


def _from_builtin(kind: type, value: object) -> object:
    if kind in _TEXTUAL:
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        try:
            return kind(value)
        except MendelError as error:
            raise ValueError(str(error)) from error
    raise NotImplementedError


def to_json(value: object) -> bytes:
    """
    Encode a dataclass, or a tree of builtins, as canonical JSON: keys sorted, no spaces.

    Times become RFC 3339 in UTC, durations become ISO 8601, names and digests become strings.
    NaN and infinities become null.
    """
    return msgspec.json.encode(to_builtins(value), order="sorted")


def to_builtins(value: object) -> Any:
    """Convert a value as :func:`to_json` does, but to dicts, lists and scalars instead of text."""
    return msgspec.to_builtins(value, enc_hook=_to_builtin, builtin_types=None, str_keys=True)


def from_builtins(tree: object, kind: type[T], *, strict: bool = True) -> T:
    """
    Build a *kind* from dicts, lists and scalars.

    Args:
        strict: False also reads numbers and truth values from text, as a query string has them.

    Raises:
        InvalidValue: A value is missing or has the wrong type; the message names its place in the tree.
    """
    try:
        return msgspec.convert(tree, kind, dec_hook=_from_builtin, strict=strict)
    except (msgspec.ValidationError, MendelError, ValueError) as error:
        raise InvalidValue(f"Not a {getattr(kind, '__name__', kind)}: {error}.") from error


def from_json(text: bytes | str, kind: type[T]) -> T:
    """
    Decode JSON text into a *kind*.

    Raises:
        InvalidValue: The text is not JSON, or a value is missing or has the wrong type; the message names its place.
    """
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=_from_builtin)
    except (msgspec.DecodeError, MendelError, ValueError) as error:
        raise InvalidValue(f"Not a {getattr(kind, '__name__', kind)}: {error}.") from error
    except RecursionError as error:
        raise _too_deep() from error


def read_json(text: bytes | str) -> Any:
    """
    Decode JSON from outside, and raise an error for values that Mendel cannot store.

    Raises:
        InvalidValue: The text is not JSON; it is nested deeper than 64 levels; an integer does not fit in 64 bits; a
            string is longer than 100,000 characters or contains NUL, which PostgreSQL cannot store.
    """
    try:
        tree = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidValue(f"The text is not JSON: {error}.") from error
    except RecursionError as error:
        raise _too_deep() from error
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return tree
    raise _too_deep()


def check_text(text: str) -> str:
    """
    Return *text* unchanged after checking that it can be stored.

    Raises:
        InvalidValue: *text* is longer than 100,000 characters, contains NUL, or is not Unicode (a lone surrogate).
    """
    if len(text) > MAX_TEXT:
        raise InvalidValue(f"A text has {len(text)} characters; at most {MAX_TEXT} are allowed.")
    if "\0" in text:
        raise InvalidValue("A text contains the character NUL (U+0000).", remedy="Remove the character.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue("A text contains half of a surrogate pair, which is not Unicode.") from error
    return text


def check_integer(number: int) -> int:
    """
    Return *number* unchanged after checking that it fits in a signed 64-bit integer.

    Raises:
        InvalidValue: The number does not fit.
    """
    if not -(1 << 63) <= number < 1 << 63:
        raise InvalidValue("An integer does not fit in 64 bits: it must lie between -2^63 and 2^63 - 1.")
    return number


def _children(node: object) -> Iterable[object]:
    """Give the keys and values inside *node*; if *node* is a string or integer, check it instead."""
    match node:
        case dict():
            return chain(node, node.values(), _NOT_EMPTY)
        case list():
            return chain(node, _NOT_EMPTY)
        case str():
            check_text(node)
        case int():
            check_integer(node)
    return ()


_NOT_EMPTY = (None,)
"""An extra child, so that an empty list or object counts as a level, too."""


def _too_deep() -> InvalidValue:
    return InvalidValue(f"The JSON is nested deeper than {MAX_DEPTH} levels.", remedy="Send JSON with fewer levels.")
