"""``mendel conformance``: what it prints, and how it exits."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from support.tiny_rest_server import Exchange, tiny_rest_server


@pytest.fixture
def server():
    with tiny_rest_server() as running:
        yield running


def lose_ids(exchange: Exchange) -> None:
    if exchange.infers and exchange.status == 200 and exchange.content is None:
        exchange.document.pop("id", None)


def test_a_server_that_conforms_exits_with_0(mendel, server):
    """The findings are printed in tables, the required points apart."""
    said = mendel("conformance", server.address, "--model", "m")
    assert said.code == 0
    required, others = said.out.split("Extensions\n")
    assert "rest.infer.id" in required
    assert "rest.binary.inputs" in others
    assert "No required point fails." in said.out
    assert "Not tried, because it changes what the server serves" in others


def test_a_required_point_that_fails_exits_with_1(mendel, server, tmp_path):
    """The point, and what was seen, stand in the table, in the JSON and in the JUnit file."""
    server.change = lose_ids
    file = tmp_path / "findings.xml"
    said = mendel("conformance", server.address, "--model", "m", "--only", "required", "--junit", file, "--json")
    assert said.code == 1
    assert said.err == ""
    (failed,) = [one for one in json.loads(said.out)["findings"] if one["verdict"] == "failed"]
    assert failed["check"] == "rest.infer.id"
    (failure,) = ET.parse(file).findall("testsuite/testcase/failure")  # noqa: S314 - our own text
    assert failure.get("message") == failed["detail"]
    assert "Required points that fail: 1." in mendel("conformance", server.address, "--model", "m").out


def test_a_given_request_is_read_from_a_file(mendel, server, tmp_path):
    """--request names a file with a request that the model accepts; another text is refused."""
    file = tmp_path / "request.json"
    file.write_text('{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}')
    said = mendel("conformance", server.address, "--model", "m", "--request", file)
    assert said.code == 1
    assert "The given request is refused" in said.out
    file.write_text("{")
    assert mendel("conformance", server.address, "--model", "m", "--request", file).code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("http://127.0.0.1:1", "--model", "m"), "cannot be reached"),
        ((), "--grpc HOST:PORT"),
        (("--grpc", "127.0.0.1:1", "--model", "m", "--timeout", "0.2"), "cannot be reached"),
    ],
)
def test_a_server_that_cannot_be_checked_exits_with_2(mendel, arguments, told: str):
    """Without a server there is no table, one sentence and the exit code 2."""
    said = mendel("conformance", *arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err


def test_a_model_that_the_server_lacks_exits_with_2(mendel, server):
    """An unknown model, and a key that is refused, check nothing."""
    said = mendel("conformance", server.address, "--model", "n")
    assert (said.code, said.out) == (2, "")
    assert "no such model" in said.err
