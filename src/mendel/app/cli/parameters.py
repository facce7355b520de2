"""
Convert the parameters in the signature of a command's function to click parameters.

    def canary(version: Annotated[str, argument("NAME@N")], *, share: Annotated[float, option(help="...")] = 0.1): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints

import click

Bounds = tuple[float, float]

_SIMPLE = {str: click.STRING, int: click.INT, float: click.FLOAT, bool: click.BOOL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An option or an argument without name, type and default, which the function's signature gives."""

    kind: type[click.Option | click.Argument]
    flags: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    bounds: Bounds | None = None
    existing: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


def argument(metavar: str, help: str | None = None, *, existing: bool = False) -> Declared:  # noqa: A002 - click's name
    """
    Declare a positional argument; the argument is required if the signature gives no default.

    Args:
        existing: When True, the value must be the path of an existing file.
    """
    return Declared(kind=click.Argument, existing=existing, more={"metavar": metavar, "help": help})


def option(
    *flags: str,
    choices: tuple[str, ...] = (),
    bounds: Bounds | None = None,
    existing: bool = False,
    **more: Any,
) -> Declared:
    """
    Declare an option; its name is ``--`` and the parameter's name, unless *flags* gives other names.

    Args:
        choices: The allowed values; upper and lower case are equal.
        bounds: The smallest and the largest allowed number.
        existing: When True, the value must be the path of an existing file.
        more: Further arguments of :class:`click.Option`: help, metavar, hidden, envvar; ``show_default`` describes the
            default that None means.
    """
    return Declared(kind=click.Option, flags=flags, choices=choices, bounds=bounds, existing=existing, more=more)


def parameters_of(function: Callable[..., Any]) -> Iterator[click.Parameter]:
    """Yield a click parameter for each parameter that *function* declares, in the order of its signature."""
    plain = inspect.unwrap(function)
    hints = get_type_hints(
        SimpleNamespace(__annotations__={k: v for k, v in plain.__annotations__.items() if k != "return"}),
        globalns=plain.__globals__,
        include_extras=True,
    )
    for name, parameter in inspect.signature(plain).parameters.items():
        hint, declared = get_args(hints[name])
        yield _built(name, hint, declared, parameter.default)


def _built(name: str, hint: Any, declared: Declared, default: Any) -> click.Parameter:
    inner = _without_none(hint)
    multiple = get_origin(inner) is list
    item = _without_none(get_args(inner)[0]) if multiple else inner
    required = default is inspect.Parameter.empty
    attributes: dict[str, Any] = {"type": _type_of(item, declared), "required": required, **declared.more}
    if not required and default is not None:
        attributes["default"] = default
    if declared.kind is click.Argument:
        return click.Argument([name], **attributes)
    attributes.setdefault("show_default", attributes.get("default") not in {None, "", False})
    if item is bool:
        attributes |= {"type": None, "is_flag": True}
    flags = declared.flags or (f"--{name.replace('_', '-')}",)
    return click.Option([name, *flags], multiple=multiple, **attributes)


def _without_none(hint: Any) -> Any:
    kept = [one for one in get_args(hint) if one is not NoneType]
    return kept[0] if kept and get_origin(hint) is not list else hint


def _type_of(item: Any, declared: Declared) -> click.ParamType[Any]:
    if declared.choices:
        return click.Choice(declared.choices, case_sensitive=False)
    if declared.bounds is not None:
        low, high = declared.bounds
        return click.IntRange(int(low), int(high)) if item is int else click.FloatRange(low, high)
    if item is Path:
        return click.Path(path_type=Path, exists=declared.existing, dir_okay=not declared.existing)
    return _SIMPLE[item]
