"""The description of an operation of the control API, from which routes and OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, BinaryIO, Generic, TypeVar, get_args, get_origin, get_type_hints

from mendel.errors import Fenced, Forbidden, InvalidInput, MendelError, StoreUnavailable, TooLarge, Unauthenticated
from mendel.operations.hub_parts import Call, HubParts
from mendel.values import Scope

Q = TypeVar("Q")
R = TypeVar("R")
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Header:
    """Marks a field of a request as an HTTP header, for example ``Annotated[str, Header("if-match")]``."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyKind:
    """
    The format of a request body.

    Attributes:
        media_types: The accepted types, with the class of the body or None if the request's fields describe the body.
        tolerant: When True, unknown keys are ignored, because servers with another version of Mendel may send them.
    """

    max_bytes: int
    media_types: Mapping[str, Any]
    tolerant: bool = False


JSON = BodyKind(max_bytes=4 << 20, media_types={JSON_TYPE: None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative(Generic[R]):
    """A second success status of an operation, used for the results for which ``when`` is True; 304 has no body."""

    status: int
    when: Callable[[R], bool]


class Place(StrEnum):
    """The part of the HTTP message that holds a field; a body member is a key of a JSON object or a field of a form."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    MEMBER = "body member"
    BODY = "body"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A field of a request; ``wire`` is its name in the HTTP message; ``default`` is ``MISSING`` if it is required."""

    name: str
    wire: str
    place: Place
    kind: Any
    default: Any


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[Q, R]):
    """
    One operation of the control API.

    Attributes:
        name: The name of the operation and of the client's method, and the ``operationId`` in OpenAPI.
        path: The path below ``/api/v1``, or below ``/`` without a scope; placeholders in braces are request fields.
        scope: The scope that the caller's API key needs; None means that no key is needed.
        request: A dataclass. Fields with :class:`Header` are headers, fields named in the path are in the path, files
            are in a form, and other fields are in the query of a GET, else in the body; ``body`` is the whole body.
        response: The type of the result. None answers with 204; text and bytes are sent unchanged, other types as JSON.
        errors: The errors that the operation may raise besides :attr:`common_errors`.
        ready: Tells whether a long poll can be answered now; its request has a field ``wait``, in seconds.
        inline: True runs the operation on the event loop instead of in a thread.
    """

    name: str
    topic: str
    summary: str
    method: str
    path: str
    scope: Scope | None
    request: type[Q]
    response: Any
    act: Callable[[Call, Q], R]
    errors: tuple[type[MendelError], ...] = ()
    status: int = 200
    body: BodyKind = JSON
    media_type: str = JSON_TYPE
    alternative: Alternative[R] | None = None
    ready: Callable[[HubParts, Q], bool] | None = None
    inline: bool = False

    @property
    def url(self) -> str:
        """The path on the hub, with placeholders in braces."""
        return self.path if self.scope is None else f"/api/v1{self.path}"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The fields of the request with their places in the HTTP message."""
        hints = get_type_hints(self.request, include_extras=True)
        return tuple(self._parameter(one, hints[one.name]) for one in fields(self.request))  # type: ignore[arg-type]

    def _parameter(self, one: Any, kind: Any) -> Parameter:
        marks = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
        wire, place = one.name, Place.BODY if one.name == "body" else Place.MEMBER
        if header := next((mark for mark in marks if isinstance(mark, Header)), None):
            wire, place, kind = header.name, Place.HEADER, get_args(kind)[0]
        elif f"{{{one.name}}}" in self.path:
            place = Place.PATH
        elif kind in {BinaryIO, BinaryIO | None}:
            place = Place.FILE
        elif self.method == "GET":
            place = Place.QUERY
        default = one.default if one.default_factory is MISSING else one.default_factory()
        return Parameter(name=one.name, wire=wire, place=place, kind=kind, default=default)

    def at(self, *places: Place) -> tuple[Parameter, ...]:
        """Give the fields of the request that are in one of *places*."""
        return tuple(one for one in self.parameters if one.place in places)

    @property
    def has_body(self) -> bool:
        """True when the request has a body."""
        return bool(self.at(Place.BODY, Place.MEMBER, Place.FILE))

    @property
    def common_errors(self) -> tuple[type[MendelError], ...]:
        """The errors that operations like this one may raise in authorising, decoding and storing."""
        found = {
            Forbidden: True,  # also raised when the host name of the request is not allowed
            Unauthenticated: self.scope is not None,
            InvalidInput: bool(self.parameters),
            TooLarge: self.has_body,
            Fenced: self.method != "GET",
            StoreUnavailable: not self.inline,
        }
        return tuple(kind for kind, holds in found.items() if holds)


def operation(
    method: str, path: str, *, scope: Scope | None, **particulars: Any
) -> Callable[[Callable[[Call, Q], R]], Operation[Q, R]]:
    """Make an operation from the decorated function's name, types and docstring; *particulars* are further fields."""

    def describe(act: Callable[[Call, Q], R]) -> Operation[Q, R]:
        _, request, response = get_type_hints(act, include_extras=True).values()
        nothing = response is type(None)
        return Operation(
            name=act.__name__,
            topic=act.__module__.rpartition(".")[2],
            summary=" ".join((act.__doc__ or "").split()),
            method=method,
            path=path,
            scope=scope,
            request=request,
            response=None if nothing else response,
            act=act,
            **({"status": 204} if nothing else {}) | particulars,
        )

    return describe
