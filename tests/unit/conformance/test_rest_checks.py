"""Each fault of a REST server is found by the check that is meant for the fault, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mendel.conformance import REST_CHECKS, Report, Requirement, Verdict, check
from support.tiny_rest_server import Change, Exchange, TinyRestServer, tiny_rest_server


@pytest.fixture(scope="module")
def running():
    with tiny_rest_server() as server:
        yield server


@pytest.fixture
def server(running: TinyRestServer) -> TinyRestServer:
    running.change, running.loaded = lambda _: None, True
    return running


def run(server: TinyRestServer, **given: Any) -> Report:
    return check(server.address, model="m", **{"allow_changes": True, **given})


def on(path: str, act: Callable[[Exchange], Any]) -> Change:
    """Change the answers to one path."""
    return lambda exchange: act(exchange) if exchange.path == path else None


def when(holds: Callable[[Exchange], Any], act: Callable[[Exchange], Any]) -> Change:
    """Change the answers to inference requests for which something *holds*."""
    return lambda exchange: act(exchange) if exchange.infers and holds(exchange) else None


def answered(exchange: Exchange) -> bool:
    return exchange.status == 200


def refused_for(text: str) -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.document.get("error") == text


def says(status: int, document: Any = None) -> Callable[[Exchange], None]:
    def act(exchange: Exchange) -> None:
        exchange.status, exchange.document = status, {"error": "changed"} if document is None else document

    return act


def puts(**fields: Any) -> Callable[[Exchange], None]:
    """Set fields of the answer; None removes the field."""

    def act(exchange: Exchange) -> None:
        changed = exchange.document | fields
        exchange.document = {name: value for name, value in changed.items() if value is not None}

    return act


def output(place: int, **fields: Any) -> Callable[[Exchange], None]:
    """Set fields of one output; None removes the field."""

    def act(exchange: Exchange) -> None:
        if exchange.content is None:
            outputs = exchange.document["outputs"]
            changed = outputs[place % len(outputs)] | fields
            outputs[place % len(outputs)] = {name: value for name, value in changed.items() if value is not None}

    return act


def different_each_time() -> Change:
    count = iter(range(10**6))
    return when(
        answered, lambda exchange: output(0, data=[next(count)] * exchange.document["outputs"][0]["shape"][0])(exchange)
    )


def dies_of_text() -> Change:
    dead: list[bool] = []

    def act(exchange: Exchange) -> None:
        if exchange.body.startswith(b"{this"):
            dead.append(True)
        if dead and exchange.path == "/v2/health/live":
            exchange.status = 503

    return act


def swapped_bytes(exchange: Exchange) -> None:
    exchange.document["outputs"][0]["data"] = [-1.0]


def nested(exchange: Exchange) -> bool:
    return answered(exchange) and isinstance(exchange.asked["inputs"][0].get("data", [0])[0], list)


def adds_an_output(exchange: Exchange) -> None:
    exchange.document["outputs"].insert(0, {**TENSOR, "shape": [0], "data": []})


def no_length(exchange: Exchange) -> None:
    exchange.sent.pop("Inference-Header-Content-Length", None)


def with_parameters(exchange: Exchange) -> bool:
    return answered(exchange) and exchange.asked["inputs"][0].get("parameters") == {}


def own_parameters(exchange: Exchange) -> bool:
    return answered(exchange) and "conformance_text" in exchange.asked.get("parameters", {})


TENSOR = {"name": "sum", "datatype": "FP32", "shape": [-1]}
TAG = TENSOR | {"name": "tag", "datatype": "BYTES"}
ACCEPTED = says(200, {"outputs": []})
FAULTS: dict[str, tuple[str, Change]] = {
    "is not live": ("rest.live", on("/v2/health/live", puts(live=False))),
    "is not ready": ("rest.ready", on("/v2/health/ready", says(503))),
    "has no extensions": ("rest.metadata", on("/v2", puts(extensions=None))),
    "has a version that is a number": ("rest.metadata", on("/v2", puts(version=1))),
    "names another model": ("rest.model.metadata", on("/v2/models/m", puts(name="n"))),
    "has no platform": ("rest.model.metadata", on("/v2/models/m", puts(platform=None))),
    "has a version of the model that is a number": ("rest.model.metadata", on("/v2/models/m", puts(versions=[1]))),
    "announces an unknown datatype": (
        "rest.model.tensors",
        on("/v2/models/m", puts(outputs=[TENSOR | {"datatype": "FLOAT"}])),
    ),
    "announces no list of inputs": ("rest.model.tensors", on("/v2/models/m", puts(outputs=None))),
    "announces a shape of texts": (
        "rest.model.tensors",
        on("/v2/models/m", puts(outputs=[TENSOR | {"shape": ["-1"]}])),
    ),
    "has a model that is not ready": ("rest.model.ready", on("/v2/models/m/ready", puts(ready=False))),
    "announces a version that it lacks": ("rest.model.versions", on("/v2/models/m", puts(versions=["1", "2"]))),
    "has no inference": ("rest.infer", on("/v2/models/m/infer", says(404))),
    "answers three rows with fewer elements": (
        "rest.infer.variable_axes",
        when(lambda e: answered(e) and e.document["outputs"][0]["shape"] == [3], output(0, data=[1.0, 2.0])),
    ),
    "answers for another model": ("rest.infer.model_name", when(answered, puts(model_name="n"))),
    "gives a number as version": ("rest.infer.model_version", when(answered, puts(model_version=1))),
    "answers with a version that is not announced": (
        "rest.infer.model_version",
        when(answered, puts(model_version="9")),
    ),
    "gives no outputs": ("rest.infer.outputs", when(answered, puts(outputs=[]))),
    "gives no shape": ("rest.infer.outputs", when(answered, output(0, shape=None))),
    "gives an output twice": (
        "rest.infer.outputs",
        when(answered, lambda e: e.document["outputs"].append(e.document["outputs"][0])),
    ),
    "gives a variable shape": ("rest.infer.outputs", when(answered, output(0, shape=[-1]))),
    "gives too few elements": ("rest.infer.elements", when(answered, output(0, data=[]))),
    "gives text for a number": ("rest.infer.elements", when(answered, output(0, data=["1"]))),
    "nests elements otherwise than their shape": (
        "rest.infer.elements",
        when(answered, output(0, data=[[[0.2]]])),
    ),
    "gives a number beyond its type": (
        "rest.infer.elements",
        when(answered, output(0, datatype="INT8", data=[128])),
    ),
    "gives no data": ("rest.infer.elements", when(answered, output(0, data=None))),
    "answers an output that is not announced": (
        "rest.infer.agreement",
        on("/v2/models/m", puts(outputs=[TENSOR])),
    ),
    "lacks an output that is announced": (
        "rest.infer.agreement",
        on("/v2/models/m", puts(outputs=[TENSOR, TAG, TENSOR | {"name": "more"}])),
    ),
    "answers another datatype than announced": (
        "rest.infer.agreement",
        on("/v2/models/m", puts(outputs=[TENSOR | {"datatype": "INT64"}, TAG])),
    ),
    "answers another rank than announced": (
        "rest.infer.agreement",
        on("/v2/models/m", puts(outputs=[TENSOR | {"shape": [-1, 1]}, TAG])),
    ),
    "loses the id": ("rest.infer.id", when(answered, puts(id=None))),
    "gives every output": (
        "rest.infer.requested_outputs",
        when(lambda exchange: answered(exchange) and "outputs" in exchange.asked, adds_an_output),
    ),
    "refuses nested lists": ("rest.infer.nested_data", when(nested, says(400))),
    "reads nested lists otherwise": ("rest.infer.nested_data", when(nested, output(0, data=[9.0]))),
    "refuses parameters": ("rest.infer.parameters", when(with_parameters, says(400))),
    "fails with parameters": ("rest.infer.parameters", when(own_parameters, says(500))),
    "gives a list as parameter": ("rest.infer.answer_parameters", when(answered, puts(parameters={"ids": ["a"]}))),
    "answers differently each time": ("rest.infer.repetition", different_each_time()),
    "describes a model that it lacks": (
        "rest.error.unknown_model",
        on("/v2/models/conformance-no-such-model", says(200, {"name": "conformance-no-such-model"})),
    ),
    "refuses a model without a text": (
        "rest.error.unknown_model",
        on("/v2/models/conformance-no-such-model/infer", says(404, {"detail": "Not Found"})),
    ),
    "answers for a version that it lacks": (
        "rest.error.unknown_version",
        on("/v2/models/m/versions/987654321/infer", ACCEPTED),
    ),
    "accepts too few elements": ("rest.error.wrong_shape", when(refused_for("wrong shape"), ACCEPTED)),
    "accepts unknown datatypes": (
        "rest.error.unknown_datatype",
        when(refused_for("unknown datatype"), ACCEPTED),
    ),
    "accepts text for a number": (
        "rest.error.wrong_element",
        when(refused_for("wrong element"), ACCEPTED),
    ),
    "accepts no inputs": ("rest.error.missing_inputs", when(refused_for("no inputs"), ACCEPTED)),
    "refuses a body without JSON": (
        "rest.error.not_json",
        when(refused_for("not JSON"), lambda exchange: setattr(exchange, "content", b"Bad Request")),
    ),
    "is not live after an error": ("rest.error.live_afterwards", dies_of_text()),
    "mixes up ids": (
        "rest.concurrency",
        when(lambda e: answered(e) and "conformance-call" in e.asked.get("id", ""), puts(id="conformance-call-0")),
    ),
    "mixes up answers": (
        "rest.concurrency",
        when(lambda e: answered(e) and "conformance-call" in e.asked.get("id", ""), output(0, data=[0.2])),
    ),
    "closes connections": (
        "rest.keep_alive",
        on("/v2/health/live", lambda exchange: exchange.sent.update(Connection="close")),
    ),
    "reads binary inputs otherwise": (
        "rest.binary.inputs",
        when(lambda e: answered(e) and "inference-header-content-length" in e.headers, swapped_bytes),
    ),
    "does not tell the length of the JSON": ("rest.binary.outputs", when(answered, no_length)),
    "counts no requests": (
        "rest.statistics",
        on(
            "/v2/models/m/stats",
            puts(model_stats=[{"name": "m", "inference_stats": {"success": {"count": 1, "ns": 0}}}]),
        ),
    ),
    "has an empty index": ("rest.repository.index", on("/v2/repository/index", says(200, []))),
    "does not unload": ("rest.repository.reload", on("/v2/repository/models/m/unload", says(400))),
}  # fmt: skip


def test_a_server_that_conforms_passes_every_check(server):
    """Nothing fails, is undecided or skipped at a server with every extension."""
    report = run(server)
    assert [(one.check, one.detail) for one in report.findings if one.verdict is not Verdict.PASSED] == []
    assert report.conforms
    assert len(report.findings) == len(REST_CHECKS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_check_alone(server, fault: str):
    """The check that is meant for the fault fails, and no other check."""
    expected, server.change = FAULTS[fault]
    report = run(server)
    assert [one.check for one in report.failed] == [expected], report.failed
    assert all(one.detail for one in report.failed)
    required = next(one for one in REST_CHECKS if one.name == expected).requirement is Requirement.REQUIRED
    assert report.conforms is not required


def test_every_check_finds_a_fault():
    """There is a fault for each check, so no check passes whatever the server does."""
    assert {expected for expected, _ in FAULTS.values()} == {one.name for one in REST_CHECKS}
