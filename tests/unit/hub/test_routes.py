"""Who may call what: every route has a scope, and no key does more than its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from mendel.transports.hub import OPEN_PATHS, create_app
from mendel.transports.hub.access import Requires
from mendel.values import Scope

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass(frozen=True)
class Found:
    """A route and the path it really has."""

    path: str
    route: Route

    @property
    def methods(self):
        return self.route.methods

    @property
    def scopes(self):
        if not isinstance(self.route, APIRoute):
            return []
        return [one.call.scope for one in self.route.dependant.dependencies if isinstance(one.call, Requires)]


def routes_of(parts):
    return list(_walked(create_app(parts).routes))


def guarded(parts):
    return [one for one in routes_of(parts) if one.scopes]


def _walked(routes, prefix=""):
    for route in routes:
        if hasattr(route, "original_router"):  # how this version of the framework keeps an included router
            yield from _walked(route.original_router.routes, prefix + route.include_context.prefix)
        else:
            yield Found(prefix + route.path, route)


def test_every_route_declares_one_scope(parts):
    """A route without a scope is one of the few open ones, and no route has two."""
    routes = routes_of(parts)
    assert len(routes) > 40
    assert {one.path for one in routes if not one.scopes} == OPEN_PATHS
    assert [one.path for one in routes if len(one.scopes) > 1] == []
    assert all(one.path.startswith("/api/v1/") for one in routes if one.scopes)


def test_what_changes_something_needs_more_than_read(parts):
    """No route that changes anything is open to a key that may only read."""
    assert [one.path for one in routes_of(parts) if one.methods & CHANGING and Scope.READ in one.scopes] == []


def test_scopes_come_before_bodies(parts):
    """What a stranger sends is not read: in every route the scope is asked for before the body."""
    for one in guarded(parts):
        assert one.route.dependant.body_params == [], f"{one.path} parses a body before its scope"
        assert isinstance(one.route.dependant.dependencies[0].call, Requires), one.path


def test_open_routes_only_read(parts):
    """What anyone may call answers GET alone."""
    assert all(one.methods <= {"GET", "HEAD"} for one in routes_of(parts) if not one.scopes)


ALLOWED = {
    Scope.PREDICT: set(),
    Scope.READ: {Scope.READ},
    Scope.LABEL: {Scope.LABEL},
    Scope.REGISTER: {Scope.REGISTER},
    Scope.DEPLOY: {Scope.DEPLOY},
    Scope.ADMIN: set(Scope),
}


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_does_what_it_was_made_for_and_no_more(hub, scope):
    """On every route, a key passes exactly where its scope is the route's, or is admin."""
    http, values = hub.http(scope), defaultdict(lambda: "none", number="1", seq="1", digest="sha256:" + "0" * 64)
    for one in guarded(hub.parts):
        (needed,) = one.scopes
        answer = http.request(next(iter(one.methods)), one.path.format_map(values), params={"model": "none"})
        assert (answer.status_code == 403) == (needed not in ALLOWED[scope]), (one.path, answer.text)
        if answer.status_code == 403:
            assert answer.json()["detail"] == f"This key may not {needed}."


def test_strangers_get_in_nowhere(hub):
    """Without a key, and with one nobody made, every guarded route answers 401."""
    bare, wrong = hub.http(None), hub.http(None)
    wrong.headers["authorization"] = "Bearer nobody-made-this"
    for one in guarded(hub.parts):
        for http in (bare, wrong):
            answer = http.request(next(iter(one.methods)), one.path)
            assert (answer.status_code, answer.json()["title"]) == (401, "Unauthenticated"), one.path


def test_keys_come_in_either_header(hub):
    """``X-API-Key`` opens as ``Authorization: Bearer`` does, whatever the case of the scheme."""
    secret = hub.parts.registry.keys.add(("read",), "x")
    http = hub.http(None)
    for headers in (
        {"x-api-key": secret},
        {"authorization": f"bearer {secret}"},
        {"Authorization": f"Bearer  {secret}"},
    ):
        assert http.get("/api/v1/models", headers=headers).status_code == 200
    assert http.get("/api/v1/models", headers={"authorization": f"Basic {secret}"}).status_code == 401


def test_a_revoked_key_opens_nothing(hub):
    """From the moment a key is revoked it is unknown."""
    http = hub.http("read")
    assert http.get("/api/v1/models").status_code == 200
    for key in hub.parts.registry.keys.all():
        hub.parts.registry.keys.revoke(key.digest)
    assert http.get("/api/v1/models").status_code == 401
