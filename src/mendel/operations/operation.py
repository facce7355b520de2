"""What an operation of the control plane is: one frozen description, and the function that carries it out."""

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
    """Marks the field of a request that is a header: ``Annotated[str, Header("if-match")]``."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyKind:
    """
    How the body of a request is written.

    Attributes:
        media_types: The first is what Mendel's client sends. Each has the type that describes it, or None where the
            fields of the request do.
        tolerant: Whether keys that this Mendel does not know are ignored: what servers of another version send.
    """

    max_bytes: int
    media_types: Mapping[str, Any]
    tolerant: bool = False


JSON = BodyKind(max_bytes=4 << 20, media_types={JSON_TYPE: None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative(Generic[R]):
    """A second status of success, and the answers that have it; 304 has no body."""

    status: int
    when: Callable[[R], bool]


class Place(StrEnum):
    """Where a field of a request stands in the HTTP message; a member is one of a JSON object or a text of a form."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    MEMBER = "body member"
    BODY = "body"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A field of a request: its name in Python and on the wire, its place, type and default (or ``MISSING``)."""

    name: str
    wire: str
    place: Place
    kind: Any
    default: Any


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[Q, R]):
    """
    One operation of the control plane.

    Attributes:
        name: Of the operation, of the client's method, and of the ``operationId`` in OpenAPI.
        path: Below ``/api/v1``; an operation without a scope stands at the root. Names in braces are fields.
        scope: What the caller's key must have; None: anybody who reaches the port may call it.
        request: A frozen dataclass. A field stands where its type says (:class:`Header`, a file), else in the path if
            the path names it, else in the query of a GET, else in the body; the field ``body`` is the whole body.
        response: The type of the answer; None is 204, text and bytes go as they are, all else as JSON.
        errors: What it raises beside :attr:`common_errors`.
        ready: For a long poll: whether it can be answered now. The request has a field ``wait``, in seconds.
        inline: Whether it runs on the event loop itself, and takes no thread.
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
        """The path below the hub's address, with the names in braces."""
        return self.path if self.scope is None else f"/api/v1{self.path}"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The fields of the request, each with its place."""
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
        """The fields of the request that stand at one of *places*."""
        return tuple(one for one in self.parameters if one.place in places)

    @property
    def has_body(self) -> bool:
        """Whether a body is read."""
        return bool(self.at(Place.BODY, Place.MEMBER, Place.FILE))

    @property
    def common_errors(self) -> tuple[type[MendelError], ...]:
        """What every operation of its kind may raise, before its function is reached or because of the stores."""
        found = {
            Forbidden: True,  # for a start, when the hub is addressed under a name that is not its own
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
    """Describe the function below; its name, types and summary are the operation's, *particulars* its other fields."""

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
