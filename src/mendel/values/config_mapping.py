"""Build frozen dataclasses from configuration mappings (YAML, environment); an unknown key is an error."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mendel.errors import InvalidInput, InvalidPolicy, MendelError
from mendel.values.time import parse_duration

T = TypeVar("T")


def from_mapping(kind: type[T], mapping: Mapping[str, Any], *, at: str, error: type[InvalidInput] = InvalidPolicy) -> T:
    """
    Build the dataclass *kind* from a mapping that a person wrote.

    Durations are written ``30s``. Numbers and booleans may be text, as in environment variables. A nested dataclass is
    a nested mapping.

    Args:
        at: The place of the mapping, which begins every error message: ``healing`` or ``mendel.yaml: serving``.
        error: The class of the exception to raise.

    Raises:
        error: A key is unknown (the message names the nearest known key), or a value has the wrong type or range.
    """
    tree = _normalise(kind, mapping, at, error)
    try:
        return msgspec.convert(tree, kind, strict=False)
    except MendelError as fault:
        raise error(f"{at}: {fault.message}", remedy=fault.remedy) from fault
    except (msgspec.ValidationError, ValueError, TypeError) as fault:
        raise error(f"{at}: {fault}.") from fault


def unknown_key_message(key: str, known: list[str], at: str) -> str:
    """
    Give the error message for the unknown *key*.

    >>> unknown_key_message("cooldwn", ["bake", "cooldown"], "healing")
    "healing: unknown key 'cooldwn'; did you mean 'cooldown'?"
    """
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(sorted(known))}."
    return f"{at}: unknown key {key!r}; {hint}"


def _normalise(kind: Any, value: Any, at: str, error: type[InvalidInput]) -> Any:
    kind = _without_none(kind)
    if kind is timedelta and isinstance(value, int | float):
        raise error(f"{at}: {value!r} is not a duration; add a unit, for example {value}s.")
    if kind is timedelta and isinstance(value, str):
        try:
            return parse_duration(value)
        except MendelError as fault:
            raise error(f"{at}: {fault.message}", remedy=fault.remedy) from fault
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise error(f"{at}: {value!r} is not a mapping of keys to values.")
        hints = _type_hints(kind)
        known = [field.name for field in fields(kind)]
        for key in value:
            if key not in hints:
                raise error(unknown_key_message(str(key), known, at))
        return {key: _normalise(hints[key], inner, f"{at}.{key}", error) for key, inner in value.items()}
    if get_origin(kind) is dict and isinstance(value, Mapping):
        inner_kind = get_args(kind)[1]
        return {str(key): _normalise(inner_kind, inner, f"{at}.{key}", error) for key, inner in value.items()}
    return value


@cache
def _type_hints(kind: type) -> Mapping[str, Any]:
    """Compile the annotations once for each class: a hub reads policies several times a second."""
    return get_type_hints(kind)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in {Union, types.UnionType}:
        rest = [arm for arm in get_args(kind) if arm is not type(None)]
        return rest[0] if len(rest) == 1 else kind
    return kind
