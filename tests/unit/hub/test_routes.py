"""Who may call what: every route has a scope, and no key does more than its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from mendel.operations import OPERATIONS
from mendel.operations.openapi import errors_by_status
from mendel.transports.hub import OPEN_PATHS, create_app
from mendel.values import Scope

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
GUARDED = [one for one in OPERATIONS.values() if one.scope is not None]


def routes_of(parts):
    return [(method, route.path) for route in create_app(parts).routes for method in route.methods - {"HEAD"}]


def test_routes_are_the_operations_and_the_documentation(parts):
    """Each operation has its route, and the application has no other, but for the pages that describe it."""
    pages = [("GET", "/docs"), ("GET", "/openapi.json")]
    assert sorted(routes_of(parts)) == sorted([*pages, *((one.method, one.url) for one in OPERATIONS.values())])
    assert len(OPERATIONS) > 40


def test_the_published_document_describes_every_operation(hub):
    """``/openapi.json`` is OpenAPI 3.1 with each operation, its schemas filled in, its errors and its scope."""
    document = hub.http(None).get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    told = {
        (method.upper(), url): one for url, by_method in document["paths"].items() for method, one in by_method.items()
    }
    assert set(told) == {(one.method, one.url) for one in OPERATIONS.values()}
    for one in OPERATIONS.values():
        described = told[one.method, one.url]
        assert described["operationId"] == one.name
        assert described["security"] == ([{"bearer": [one.scope]}, {"key": [one.scope]}] if one.scope else [])
        assert set(map(int, described["responses"])) >= {one.status, *errors_by_status(one)}
        for status, response in described["responses"].items():
            schemas = [content["schema"] for content in response.get("content", {}).values()]
            assert all(schemas), (one.name, status)
            assert bool(schemas) == (int(status) not in {204, 304}), (one.name, status)
        for content in described.get("requestBody", {"content": {}})["content"].values():
            assert content["schema"], one.name


def test_every_operation_declares_a_scope(parts):
    """An operation without a scope is one of the few open ones; all others stand below /api/v1."""
    assert {path for _, path in routes_of(parts) if not path.startswith("/api/v1/")} == OPEN_PATHS
    assert all(one.url.startswith("/api/v1/") for one in GUARDED)
    assert len(GUARDED) + len(OPEN_PATHS) == len(routes_of(parts))


def test_what_changes_something_needs_more_than_read():
    """No operation that changes anything is open to a key that may only read; a backtest only sends its input."""
    assert [one.name for one in GUARDED if one.method in CHANGING and one.scope is Scope.READ] == ["backtest"]


@pytest.mark.parametrize("one", [one for one in GUARDED if one.has_body], ids=lambda one: one.name)
def test_scopes_come_before_bodies(hub, one):
    """What a stranger sends is not read: the answer comes while the body has not begun."""
    values = defaultdict(lambda: "none", number="1", seq="1", digest="sha256:" + "0" * 64)
    request = hub.http(None).build_request(one.method, one.url.format_map(values))
    assert asked_without_a_body(create_app(hub.parts), request) == 401


def asked_without_a_body(app, request):
    """The status that *app* answers with; asking for the body is a failure."""
    statuses = []

    async def receive():
        pytest.fail("the body was read before the key")

    async def send(message):
        statuses.append(message.get("status"))

    scope = {
        "type": "http",
        "method": request.method,
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"content-length", b"5")],
    }
    asyncio.run(app(scope, receive, send))
    return statuses[0]


def test_open_routes_only_read(parts):
    """What anyone may call answers GET alone."""
    assert all(method == "GET" for method, path in routes_of(parts) if path in OPEN_PATHS)


ALLOWED = {
    Scope.PREDICT: set(),
    Scope.READ: {Scope.READ},
    Scope.LABEL: {Scope.LABEL},
    Scope.SERVE: {Scope.SERVE},
    Scope.REGISTER: {Scope.REGISTER},
    Scope.APPROVE: {Scope.APPROVE},
    Scope.DEPLOY: {Scope.DEPLOY},
    Scope.ADMIN: set(Scope),
}


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_does_what_it_was_made_for_and_no_more(hub, scope):
    """On every route, a key passes exactly where its scope is the route's, or is admin."""
    http, values = hub.http(scope), defaultdict(lambda: "none", number="1", seq="1", digest="sha256:" + "0" * 64)
    for one in GUARDED:
        answer = http.request(one.method, one.url.format_map(values), params={"model": "none"})
        assert (answer.status_code == 403) == (one.scope not in ALLOWED[scope]), (one.name, answer.text)
        if answer.status_code == 403:
            assert answer.json()["detail"] == f"The API key lacks the scope '{one.scope}'."


def test_strangers_get_in_nowhere(hub):
    """Without a key, and with one nobody made, every guarded operation answers 401."""
    bare, wrong = hub.http(None), hub.http(None)
    wrong.headers["authorization"] = "Bearer nobody-made-this"
    for one in GUARDED:
        for http in (bare, wrong):
            answer = http.request(one.method, one.url)
            assert (answer.status_code, answer.json()["title"]) == (401, "Unauthenticated"), one.name


def test_keys_come_in_either_header(hub):
    """``X-API-Key`` opens as ``Authorization: Bearer`` does, whatever the case of the scheme."""
    secret = hub.parts.registry.keys.add(("read",), "x").secret
    http = hub.http(None)
    for headers in (
        {"x-api-key": secret},
        {"authorization": f"bearer {secret}"},
        {"Authorization": f"Bearer  {secret}"},
    ):
        assert http.get("/api/v1/models", headers=headers).status_code == 200
    assert http.get("/api/v1/models", headers={"authorization": f"Basic {secret}"}).status_code == 401


def test_a_revoked_key_opens_nothing(hub):
    """From the moment a key is revoked it is refused by name."""
    http = hub.http("read")
    assert http.get("/api/v1/models").status_code == 200
    (key,) = hub.parts.registry.keys.all()
    hub.parts.registry.keys.revoke(key.id)
    answer = http.get("/api/v1/models")
    assert answer.status_code == 401
    assert answer.json()["detail"].startswith(f"The API key {key.id} (read) was revoked at ")
