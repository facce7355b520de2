"""What a run of the checks needs, and what it reports."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from mendel.conformance import REST_CHECKS, Requirement, Verdict, check, junit_xml
from mendel.errors import InvalidValue, ModelNotFound, Unauthenticated, Unavailable
from support.tiny_rest_server import Exchange, TinyRestServer, tiny_rest_server


@pytest.fixture
def server():
    with tiny_rest_server() as running:
        yield running


def only_tag(wanted: str) -> Any:
    """A model that knows one tag, and refuses every other one."""

    def change(exchange: Exchange) -> None:
        if exchange.infers and exchange.status == 200:
            given = [one for one in exchange.asked["inputs"] if one["name"] == "tag"]
            if any(set(one.get("data", [wanted])) != {wanted} for one in given):
                exchange.status, exchange.document, exchange.content = 400, {"error": "unknown tag"}, None

    return change


def verdicts(server: TinyRestServer, **given: Any) -> dict[str, Verdict]:
    report = check(server.address, model="m", **given)
    return {one.check: one.verdict for one in report.findings}


def test_a_model_that_refuses_made_content_is_undecided(server):
    """No check fails because the model refuses what was made; the report says that a request is needed."""
    server.change = only_tag("Munich")
    report = check(server.address, model="m")
    assert report.failed == ()
    (infer,) = [one for one in report.findings if one.check == "rest.infer"]
    assert infer.verdict is Verdict.UNDECIDED
    assert "pass a request that the model accepts" in infer.detail
    assert "unknown tag" in infer.detail


def test_a_given_request_replaces_made_inputs(server):
    """With a request that the model accepts, the same model passes; what needs other shapes is undecided."""
    server.change = only_tag("Munich")
    inputs = [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]},
        {"name": "tag", "shape": [1], "datatype": "BYTES", "data": ["Munich"]},
    ]
    found = verdicts(server, request=json.dumps({"inputs": inputs}))
    apart = {name for name, verdict in found.items() if verdict is not Verdict.PASSED}
    assert apart == {"rest.infer.variable_axes", "rest.repository.reload"}


def test_a_given_request_that_is_refused_fails(server):
    """A request that the model should accept, and does not, is a failure."""
    request = json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP99", "data": [1, 2]}]})
    assert verdicts(server, request=request)["rest.infer"] is Verdict.FAILED


@pytest.mark.parametrize("text", ["{", "[]", '{"inputs": [{"name": "x"}]}'])
def test_a_given_request_has_to_be_one(server, text: str):
    """A text that is not an inference request is refused before the server is asked."""
    with pytest.raises(InvalidValue, match="not an inference request"):
        check(server.address, model="m", request=text)


def test_a_model_without_announced_inputs_is_undecided(server):
    """A server that does not know the inputs of a model is not blamed for it."""

    def change(exchange: Exchange) -> None:
        if exchange.path == "/v2/models/m":
            exchange.document = {"name": "m", "platform": "", "inputs": [], "outputs": []}

    server.change = change
    found = verdicts(server)
    assert Verdict.FAILED not in found.values()
    assert found["rest.infer"] is Verdict.UNDECIDED
    assert found["rest.error.not_json"] is Verdict.PASSED


def test_a_server_that_hangs_up_fails(server):
    """A server that closes the connection instead of answering fails, and the report says so once."""

    def change(exchange: Exchange) -> None:
        if exchange.infers and exchange.status == 200:
            exchange.sent["Content-Length"] = "1000000"
            exchange.sent["Connection"] = "close"

    server.change = change
    report = check(server.address, model="m")
    assert [one.check for one in report.failed] == ["rest.infer"]
    assert "got no answer" in report.failed[0].detail


def test_a_busy_server_is_undecided(server):
    """A server that answers 429 to many requests at once is not blamed for it."""

    def change(exchange: Exchange) -> None:
        if exchange.infers and exchange.asked and "conformance-call-3" in str(exchange.asked.get("id")):
            exchange.status, exchange.document = 429, {"error": "busy"}

    server.change = change
    assert verdicts(server)["rest.concurrency"] is Verdict.UNDECIDED


@pytest.mark.parametrize("status", [429, 403])
def test_an_error_of_another_cause_is_no_success(server, status):
    """A server that turns every faulty request away as busy, or for its key, is not said to find the faults."""

    def change(exchange: Exchange) -> None:
        if exchange.infers and exchange.status >= 400:
            exchange.status = status

    server.change = change
    found = verdicts(server)
    errors = {verdict for name, verdict in found.items() if name.startswith("rest.error.") and "unknown" not in name}
    assert errors == {Verdict.UNDECIDED, Verdict.PASSED}
    assert [name for name, verdict in found.items() if verdict is Verdict.PASSED and name.startswith("rest.error")] == [
        "rest.error.unknown_model",
        "rest.error.unknown_version",
        "rest.error.live_afterwards",
    ]


DEEP = [1.0]
for _ in range(900):
    DEEP = [DEEP]
ODD = {
    "deep lists": {"data": DEEP, "shape": [1]},
    "objects in place of truth values": {"datatype": "BOOL", "data": [{}], "shape": [1]},
    "a number beyond floats": {"datatype": "INT64", "data": [10**400], "shape": [1]},
    "a list of parameters": {"parameters": [1]},
}


@pytest.mark.parametrize("odd", ODD)
def test_no_answer_ends_the_checks(server, odd: str):
    """Whatever a server answers, the report is made, and the server does not conform."""

    def change(exchange: Exchange) -> None:
        if exchange.infers and exchange.status == 200 and exchange.content is None:
            exchange.document["outputs"][0] |= ODD[odd]
        elif exchange.infers and exchange.content is not None:
            exchange.content = exchange.content.replace(b'"parameters": {', b'"parameters": [0], "p": {')

    server.change = change
    report = check(server.address, model="m")
    assert report.conforms is (odd == "a list of parameters")


def test_numbers_that_json_does_not_know_fail(server):
    """NaN, which Python writes and reads, is no JSON."""
    server.change = lambda exchange: (
        exchange.document["outputs"][0].update(data=[float("nan")])
        if exchange.infers and exchange.status == 200
        else None
    )
    assert verdicts(server)["rest.infer.elements"] is Verdict.FAILED


def test_the_freedoms_of_the_specification_are_accepted(server):
    """Empty health bodies, further fields, nulls for absent fields, statuses of 5xx and no versions pass."""

    def change(exchange: Exchange) -> None:
        if exchange.path.endswith(("/live", "/ready")) and exchange.status == 200:
            exchange.content = b""
        elif exchange.path == "/v2/models/m":
            exchange.document = exchange.document | {"versions": None, "properties": {}}
        elif exchange.status >= 400:
            exchange.status = 500
        elif exchange.infers:
            exchange.document |= {"model_version": None, "parameters": None, "more": 1}

    server.change = change
    assert Verdict.FAILED not in verdicts(server).values()


def test_required_points_alone(server):
    """Without extensions and information, only required points are checked."""
    report = check(server.address, model="m", required_only=True)
    assert {one.requirement for one in report.findings} == {Requirement.REQUIRED}
    assert len(report.findings) < len(REST_CHECKS)


def test_the_model_is_found_in_the_index(server):
    """Without a name, the first model of the repository index is checked."""
    assert check(server.address).model == "m"


def test_a_server_that_lists_no_models(server):
    """Without a list of models the name has to be given."""

    def change(exchange: Exchange) -> None:
        if exchange.path == "/v2/repository/index":
            exchange.status, exchange.document = 404, {"error": "no such path"}

    server.change = change
    with pytest.raises(ModelNotFound, match="lists no models"):
        check(server.address)


def test_an_unknown_model_is_told(server):
    """A model that the server does not know is not checked."""
    with pytest.raises(ModelNotFound, match="no such model"):
        check(server.address, model="n")


def test_a_refused_key_is_told(server):
    """A server that refuses the key is not checked."""

    def change(exchange: Exchange) -> None:
        if exchange.headers.get("authorization") != "Bearer right":
            exchange.status, exchange.document = 401, {"error": "no key"}

    server.change = change
    with pytest.raises(Unauthenticated, match="refuses the key"):
        check(server.address, model="m", api_key="wrong")
    assert check(server.address, model="m", api_key="right").conforms


def test_an_extension_behind_another_key_is_undecided(server):
    """An extension that is announced and refused to this key is neither a failure nor a success."""

    def change(exchange: Exchange) -> None:
        if "stats" in exchange.path or "repository" in exchange.path:
            exchange.status, exchange.document = 403, {"error": "another key"}

    server.change = change
    found = verdicts(server, allow_changes=True)
    apart = {name for name, verdict in found.items() if verdict is Verdict.UNDECIDED}
    assert apart == {"rest.statistics", "rest.repository.index", "rest.repository.reload"}
    assert Verdict.FAILED not in found.values()


def test_a_server_that_is_not_there_is_told():
    """An address that nothing listens on cannot be checked, over REST and gRPC."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(Unavailable, match="cannot be reached"):
            check(f"http://{address}", model="m")
        with pytest.raises(Unavailable, match="cannot be reached"):
            check(grpc=address, model="m", timeout=timedelta(milliseconds=200))


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://[::1"])
def test_an_address_has_to_be_one(address: str):
    """An address that is not of HTTP is refused."""
    with pytest.raises(InvalidValue, match="not an address of HTTP"):
        check(address, model="m")
    with pytest.raises(InvalidValue, match="No address"):
        check()


def test_junit_counts_what_the_report_counts(server):
    """The XML has a test case for each finding, and its texts hold whatever the server sent."""

    def change(exchange: Exchange) -> None:
        if exchange.path == "/v2":
            exchange.document["extensions"] = "\\x1b[2J\\x00<&>"

    server.change = change
    report = check(server.address, model="m")
    root = ET.fromstring(junit_xml(report).encode())  # noqa: S314 - our own text
    assert len(root.findall("testsuite/testcase")) == len(report.findings)
    (failure,) = root.findall("testsuite/testcase/failure")
    assert "extensions" in failure.get("message", "")
    assert [one.check for one in report.failed] == ["rest.metadata"]
    totals = {name: sum(int(suite.get(name, "")) for suite in root) for name in ("tests", "failures", "skipped")}
    assert totals == {
        "tests": len(report.findings),
        "failures": report.counts[Verdict.FAILED],
        "skipped": report.counts[Verdict.SKIPPED] + report.counts[Verdict.UNDECIDED],
    }
