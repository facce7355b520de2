"""Encode the request of an operation as an HTTP message (client) and decode the message again (hub)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, BinaryIO, TypeVar, get_origin
from urllib.parse import quote

from mendel.errors import InvalidValue
from mendel.operations.operation import Operation, Parameter, Place
from mendel.operations.requests import way_out
from mendel.values import check_integer, check_text, from_builtins, read_json, to_json, unknown_key_message

Q = TypeVar("Q")
_PLACES = {place: place.value for place in Place} | {Place.PATH: "path parameter", Place.QUERY: "query parameter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The parts of an HTTP request: decoded path placeholders, headers by lower-case name, fields of a form."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    texts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, BinaryIO] = field(default_factory=dict)


def url_of(operation: Operation[Any, Any], message: Message) -> str:
    """Give the path of the request, with the placeholders replaced by the values in ``message.path``."""
    return operation.url.format_map({name: quote(value, safe="") for name, value in message.path.items()})


def write_request(operation: Operation[Q, Any], request: Q) -> Message:
    """Encode *request* as the HTTP message that a client sends."""
    told = {place: {p.wire: getattr(request, p.name) for p in operation.at(place)} for place in Place}
    given = {place: {name: value for name, value in told[place].items() if value is not None} for place in Place}
    members, whole, form = told[Place.MEMBER], given[Place.BODY].get("body"), bool(told[Place.FILE])
    content = whole if isinstance(whole, bytes) else to_json(members if whole is None else whole)
    return Message(
        path={name: str(value) for name, value in given[Place.PATH].items()},
        query={name: tuple(map(str, v if isinstance(v, tuple) else (v,))) for name, v in given[Place.QUERY].items()},
        headers={name: str(value) for name, value in given[Place.HEADER].items()},
        body=content if operation.has_body and not form else b"",
        texts={name: to_json(value).decode() for name, value in members.items()} if form else {},
        files=given[Place.FILE],
    )


def read_request(operation: Operation[Q, Any], message: Message) -> Q:
    """
    Decode the request of *operation* from an HTTP message.

    Raises:
        InvalidValue: A field is missing, unknown, or has an invalid value; the error names the field.
    """
    held: dict[Place, Mapping[str, Any]] = {
        Place.PATH: message.path,
        Place.QUERY: _query(operation, message),
        Place.HEADER: message.headers,
        Place.MEMBER: _members(operation, message),
        Place.BODY: {"body": message.body},
        Place.FILE: message.files,
    }
    given = {}
    for one in operation.parameters:
        if one.wire in held[one.place]:
            given[one.name] = _value(one, held[one.place][one.wire], tolerant=operation.body.tolerant)
        elif one.default is MISSING:
            raise InvalidValue(f"The request has no {_PLACES[one.place]} {one.wire!r}.")
    return operation.request(**given)


def _query(operation: Operation[Any, Any], message: Message) -> Mapping[str, Any]:
    lists = {one.wire for one in operation.at(Place.QUERY) if get_origin(one.kind) is tuple}
    if twice := next((name for name, values in message.query.items() if len(values) > 1 and name not in lists), None):
        raise InvalidValue(f"The query parameter {twice!r} is given {len(message.query[twice])} times; give it once.")
    return {name: values if name in lists else values[0] for name, values in message.query.items()}


def _members(operation: Operation[Any, Any], message: Message) -> Mapping[str, Any]:
    known = [one.wire for one in operation.at(Place.MEMBER)]
    if not known:
        return {}
    form = bool(operation.at(Place.FILE))
    document = {name: read_json(text) for name, text in message.texts.items()} if form else read_json(message.body)
    return _known_keys(document, known, operation.request.__name__)


def _known_keys(document: Any, known: list[str], name: str) -> Mapping[str, Any]:
    """Raise InvalidValue if *document* is not a JSON object or has a key that is not *known*."""
    if not isinstance(document, dict):
        raise InvalidValue(f"{name}: expected a JSON object, got {type(document).__name__}.")
    for key in (given for given in document if given not in known):
        raise InvalidValue(unknown_key_message(key, known, name), remedy=way_out(key))
    return document


def _value(one: Parameter, raw: Any, *, tolerant: bool) -> Any:
    kind, textual = one.kind, one.place in {Place.PATH, Place.QUERY, Place.HEADER}
    if one.place is Place.FILE or kind is bytes:
        return raw
    for text in (raw if isinstance(raw, tuple) else (raw,)) if textual else ():
        check_text(text)
    if isinstance(kind, type) and issubclass(kind, StrEnum) and raw not in list(kind):
        raise InvalidValue(f"{raw!r} is not a {kind.__name__.lower()}.", remedy=f"Choose one of: {', '.join(kind)}.")
    if isinstance(kind, type) and issubclass(kind, str) and isinstance(raw, str):
        return kind(raw)
    document = read_json(raw) if one.place is Place.BODY else raw
    if is_dataclass(kind) and not tolerant:
        _known_keys(document, [known.name for known in fields(kind)], getattr(kind, "__name__", ""))
    try:
        found = from_builtins(document, kind, strict=not textual)
    except InvalidValue as error:
        raise InvalidValue(f"The {_PLACES[one.place]} {one.wire!r} is invalid: {error.__cause__ or error}.") from error
    return check_integer(found) if isinstance(found, int) else found
