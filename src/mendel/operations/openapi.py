"""Build the OpenAPI 3.1 document of the control API from its operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING
from http import HTTPStatus
from typing import Any

import msgspec

from mendel.errors import MendelError
from mendel.operations.operation import JSON_TYPE, Operation, Parameter, Place
from mendel.operations.problems import MEDIA_TYPE, Problem, status_of_class
from mendel.values import to_builtins

_PLACES = (Place.PATH, Place.QUERY, Place.HEADER)
_BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "API key in `Authorization: Bearer KEY`."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "API key in `X-API-Key: KEY`."},
}


class _Schemas:
    """The JSON schemas of all types in requests and answers; the schema of files and bytes is binary text."""

    def __init__(self, operations: Iterable[Operation[Any, Any]]) -> None:
        kinds = list(dict.fromkeys([Problem, *(kind for one in operations for kind in _kinds(one))]))
        found, self.components = msgspec.json.schema_components(
            kinds,
            schema_hook=lambda kind: {"type": "string", "pattern": f"^{kind.pattern.pattern}$"},  # type: ignore[attr-defined]
            ref_template="#/components/schemas/{name}",
        )
        self._by_kind: dict[Any, dict[str, Any]] = dict(zip(kinds, found, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        return self._by_kind.get(kind, {"type": "string", "format": "binary"})


def openapi_document(operations: Sequence[Operation[Any, Any]], *, version: str) -> dict[str, Any]:
    """Build the OpenAPI document of *operations*: schemas, needed scopes and possible errors of each."""
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.url, {})[one.method.lower()] = {
            "operationId": one.name,
            "tags": [one.topic],
            "summary": one.summary,
            "parameters": [_parameter(p, schemas) for p in one.at(*_PLACES) if p.wire != "content-type"],
            **({"requestBody": _body(one, schemas)} if one.has_body else {}),
            "responses": {str(status): told for status, told in _responses(one, schemas)},
            "security": [{name: [one.scope.value]} for name in _SECURITY] if one.scope else [],
        }
    head = {"openapi": "3.1.0", "info": {"title": "Mendel hub", "version": version}}
    return head | {"paths": paths, "components": {"schemas": schemas.components, "securitySchemes": _SECURITY}}


def errors_by_status(one: Operation[Any, Any]) -> dict[int, list[type[MendelError]]]:
    """Give the errors that the operation *one* may raise, by their HTTP status."""
    found: dict[int, list[type[MendelError]]] = {}
    for kind in (*one.common_errors, *one.errors):
        found.setdefault(status_of_class(kind), []).append(kind)
    return dict(sorted(found.items()))


def _kinds(one: Operation[Any, Any]) -> Iterator[Any]:
    yield from (p.kind for p in one.parameters if p.place is not Place.FILE and p.kind is not bytes)
    yield from (kind for kind in one.body.media_types.values() if kind is not None)
    if one.response is not None and one.media_type in {JSON_TYPE, "text/markdown"}:
        yield one.response


def _parameter(one: Parameter, schemas: _Schemas) -> dict[str, Any]:
    default = {} if one.default in {MISSING, None} else {"default": to_builtins(one.default)}
    schema = schemas.of(one.kind) | default
    return {"name": one.wire, "in": one.place.value, "required": one.default is MISSING, "schema": schema}


def _body(one: Operation[Any, Any], schemas: _Schemas) -> dict[str, Any]:
    members = one.at(Place.MEMBER, Place.FILE)
    own = {
        "type": "object",
        "title": one.request.__name__,
        "properties": {p.wire: schemas.of(p.kind) for p in members},
        "required": [p.wire for p in members if p.default is MISSING],
        "additionalProperties": False,
    }
    if whole := one.at(Place.BODY):
        own = schemas.of(whole[0].kind)
    kinds = one.body.media_types.items()
    content = {name: {"schema": own if kind is None else schemas.of(kind)} for name, kind in kinds}
    return {"required": True, "content": content}


def _responses(one: Operation[Any, Any], schemas: _Schemas) -> Iterator[tuple[int, dict[str, Any]]]:
    content = {one.media_type: {"schema": schemas.of(one.response)}}
    for status, kinds in errors_by_status(one).items():
        told = f"{HTTPStatus(status).phrase}: {', '.join(f'`{kind.__name__}`' for kind in kinds)}"
        yield status, {"description": told, "content": {MEDIA_TYPE: {"schema": schemas.of(Problem)}}}
    for status in (one.status, *([one.alternative.status] if one.alternative else [])):
        told = HTTPStatus(status).phrase
        yield status, {"description": told} if status in _BODILESS else {"description": told, "content": content}
