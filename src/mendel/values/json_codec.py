"""Nouns to JSON and back, one way for the whole house: wire, database, files."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from mendel.errors import InvalidValue, MendelError
from mendel.values.model_names import Digest, ModelName, VersionUuid

T = TypeVar("T")
Json = dict[str, Any] | list[Any] | str | int | float | bool | None
_TEXTUAL: tuple[type[str], ...] = (ModelName, VersionUuid, Digest)


def _to_builtin(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    if type(value).__module__ == "numpy":  # not imported for it: most commands never meet an array
        return value.tolist()  # type: ignore[attr-defined]
    raise NotImplementedError


def _from_builtin(kind: type, value: object) -> object:
    if kind in _TEXTUAL and isinstance(value, str):
        try:
            return kind(value)
        except MendelError as error:
            raise ValueError(str(error)) from error
    raise NotImplementedError


def to_json(noun: object) -> bytes:
    """
    Encode a dataclass, or a tree of builtins, as canonical JSON: keys sorted, no spaces.

    Times become RFC 3339 in UTC, durations ISO 8601, names and digests plain strings.
    NaN and infinities become null.
    """
    return msgspec.json.encode(to_builtins(noun), order="sorted")


def to_builtins(noun: object) -> Any:
    """The same tree as :func:`to_json` gives, as dicts, lists and scalars."""
    return msgspec.to_builtins(noun, enc_hook=_to_builtin, builtin_types=None, str_keys=True)


def from_builtins(tree: object, kind: type[T]) -> T:
    """
    Build *kind* from a tree of builtins.

    Raises:
        InvalidValue: The tree does not fit; the message names the place.
    """
    try:
        return msgspec.convert(tree, kind, dec_hook=_from_builtin, strict=True)
    except (msgspec.ValidationError, MendelError, ValueError) as error:
        raise InvalidValue(f"Not a {getattr(kind, '__name__', kind)}: {error}.") from error


def from_json(text: bytes | str, kind: type[T]) -> T:
    """
    Decode JSON into *kind*.

    Raises:
        InvalidValue: Not JSON, or it does not fit; the message names the place.
    """
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=_from_builtin)
    except (msgspec.DecodeError, MendelError, ValueError) as error:
        raise InvalidValue(f"Not a {getattr(kind, '__name__', kind)}: {error}.") from error
