"""The table of operations: complete, described, and the same for hub and client."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

import mendel.operations
from mendel.client.client import Client
from mendel.errors import MendelError
from mendel.operations import OPERATIONS
from mendel.operations.openapi import errors_by_status
from mendel.operations.operation import Place
from mendel.values import Scope

ALL = pytest.mark.parametrize("one", OPERATIONS.values(), ids=OPERATIONS)
SERVERS_ALONE = {"desired", "put_segment", "post_report"}
"""Servers call these; they have a client of their own, which is asynchronous."""
PROBES = {"hub_health", "live", "ready"}
"""Supervisors and balancers call these."""
WITHOUT_AN_OPERATION = {"close", "register_baseline", "register_improved_model"}
"""Of the client's methods: these end it, or write an artefact first and then call ``register``."""
OTHER_RESULTS = {"download": type(None), "label": type(None)}
"""Methods that give only a part of the answer, or write it to a directory."""


def methods():
    return {name: method for name, method in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}


def test_client_and_table_agree():
    """Every operation that people call has a method of its name in the client, and no method is without one."""
    assert set(OPERATIONS) - SERVERS_ALONE - PROBES == set(methods()) - WITHOUT_AN_OPERATION


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - SERVERS_ALONE - PROBES))
def test_a_method_gives_what_its_operation_answers(name):
    """The client's method returns the type that the operation declares."""
    told = get_type_hints(methods()[name])["return"]
    assert told == OTHER_RESULTS.get(name, OPERATIONS[name].response or type(None))


@ALL
def test_every_operation_is_described(one):
    """Summary, request, response and errors are there, each of its kind."""
    assert one.summary.endswith(".")
    assert is_dataclass(one.request)
    assert one.request.__dataclass_params__.frozen
    assert all(issubclass(kind, MendelError) for kind in one.errors)
    assert one.scope is None or one.scope in set(Scope)
    assert (one.response is None) == (one.status == 204)


@ALL
def test_every_field_of_a_request_has_its_place(one):
    """The names in the path are fields; a GET has no body; a whole body stands alone."""
    assert {p.name for p in one.parameters} == {p.name for p in fields(one.request)}
    assert [p.name for p in one.at(Place.PATH)] == [name.strip("{}") for name in one.path.split("/") if "{" in name]
    assert not (one.method == "GET" and one.has_body)
    assert not (one.at(Place.BODY) and one.at(Place.MEMBER, Place.FILE))
    assert len(one.at(Place.BODY)) <= 1


def test_no_two_operations_share_a_route():
    """Method and path are one operation's alone, whatever its parameters are called."""
    routes = Counter(
        (one.method, "/".join("{}" if "{" in part else part for part in one.url.split("/")))
        for one in OPERATIONS.values()
    )
    assert [route for route, count in routes.items() if count > 1] == []


@ALL
def test_what_a_key_guards_may_refuse(one):
    """Every operation declares 403, every guarded one 401, every one that reads input 400, and a bounded body 413."""
    statuses = errors_by_status(one)
    assert 403 in statuses
    assert (401 in statuses) == (one.scope is not None)
    assert (400 in statuses) == bool(one.parameters)
    assert (413 in statuses) == one.has_body
    assert 500 not in statuses


def test_descriptions_need_no_web_framework():
    """Client and operations import without the libraries of the hub."""
    absent = (
        "alembic",
        "dbos",
        "deltalake",
        "fastapi",
        "mlflow",
        "pandas",
        "pyarrow",
        "scipy",
        "sqlalchemy",
        "starlette",
    )
    probe = (
        f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
        "import mendel.client.client, mendel.operations.openapi as made\n"
        "made.openapi_document(tuple(made_of.values()), version='1')"
    ).replace("made_of", "mendel.operations.OPERATIONS")
    subprocess.run([sys.executable, "-c", probe], check=True, timeout=60)


def test_the_machinery_is_small():
    """Describing, binding and documenting operations takes at most 400 lines for all of them."""
    home = Path(mendel.operations.__file__).parent
    lines = [
        len((home / name).read_text(encoding="utf-8").splitlines())
        for name in ("operation.py", "binding.py", "openapi.py")
    ]
    assert sum(lines) <= 400, lines
