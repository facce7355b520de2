"""Each fault of a gRPC server is found by the check that is meant for the fault, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from mendel.conformance import GRPC_CHECKS, Report, Requirement, Verdict, check
from mendel.protos import open_inference_pb2 as pb
from support.tiny_grpc_server import Change, Refused, TinyGrpcServer, tiny_grpc_server
from support.tiny_rest_server import tiny_rest_server

INVALID = Refused(grpc.StatusCode.INVALID_ARGUMENT)
UNCHANGED: Change = lambda _method, _request, answer: answer  # noqa: E731 - a value among others


@pytest.fixture(scope="module")
def running():
    with tiny_grpc_server() as server:
        yield server


@pytest.fixture
def server(running: TinyGrpcServer) -> TinyGrpcServer:
    running.change, running.serving = UNCHANGED, health_pb2.HealthCheckResponse.SERVING
    return running


def run(server: TinyGrpcServer, **given: Any) -> Report:
    return check(grpc=server.address, model="m", **given)


def on(method: str, act: Callable[[Any], Any], when: Callable[[Any], Any] = lambda _: True) -> Change:
    """Change the answers of one method, but not its refusals."""

    def change(called: str, request: Any, answer: Any) -> Any:
        applies = called == method and not isinstance(answer, Refused) and when(request)
        return act(answer) if applies else answer

    return change


def puts(**fields: Any) -> Callable[[Any], Any]:
    """Set fields of the answer."""

    def act(answer: Any) -> Any:
        for name, value in fields.items():
            setattr(answer, name, value)
        return answer

    return act


def output(place: int, **fields: Any) -> Callable[[Any], Any]:
    """Set fields of one output; lists replace lists."""

    def act(answer: Any) -> Any:
        target = answer.outputs[place]
        for name, value in fields.items():
            if isinstance(value, list):
                holder = target if name == "shape" else target.contents
                holder.ClearField(name)
                getattr(holder, name).extend(value)
            else:
                setattr(target, name, value)
        return answer

    return act


def accepts(text: str) -> Change:
    """Answer calls that are refused for one reason."""
    empty = pb.ModelInferResponse(model_name="m")

    def change(_: str, __: Any, answer: Any) -> Any:
        return empty if isinstance(answer, Refused) and str(answer) == text else answer

    return change


def raw(request: Any) -> bool:
    return bool(request.raw_input_contents)


def without_outputs(answer: Any) -> Any:
    answer.ClearField("outputs")
    return answer


def both_contents(answer: Any) -> Any:
    answer.raw_output_contents.extend([b"", b""])
    return answer


def every_output(answer: Any) -> Any:
    answer.outputs.add(name="sum", datatype="FP32", shape=[0])
    return answer


def an_output_twice(answer: Any) -> Any:
    answer.outputs.append(answer.outputs[0])
    return answer


def another_output(answer: Any) -> Any:
    answer.outputs.add(name="more", datatype="FP32", shape=[-1])
    return answer


def no_successes(answer: Any) -> Any:
    answer.model_stats[0].inference_stats.success.count = 1
    return answer


def versions(answer: Any) -> Any:
    answer.versions.append("2")
    return answer


def knows_every_model(called: str, request: Any, answer: Any) -> Any:
    unknown = called == "ModelMetadata" and request.name.startswith("conformance")
    return pb.ModelMetadataResponse(name=request.name) if unknown else answer


def knows_every_version(called: str, request: Any, answer: Any) -> Any:
    unknown = called == "ModelInfer" and request and request.model_version not in {"", "1"}
    return pb.ModelInferResponse(model_name="m") if unknown else answer


def dies_of_missing_inputs() -> Change:
    dead: list[bool] = []

    def change(called: str, request: Any, answer: Any) -> Any:
        if called == "ModelInfer" and request and not request.inputs:
            dead.append(True)
        return pb.ServerLiveResponse(live=False) if dead and called == "ServerLive" else answer

    return change


def dead_at_first() -> Change:
    told: list[bool] = []

    def change(called: str, _: Any, answer: Any) -> Any:
        if called == "ServerLive" and not told:
            told.append(True)
            return pb.ServerLiveResponse(live=False)
        return answer

    return change


def fails_after_many_calls() -> Change:
    """Fails plain calls after the 32 calls at once: those with a short deadline are the next."""
    seen: list[str] = []

    def change(called: str, request: Any, answer: Any) -> Any:
        if called == "ServerMetadata":
            seen.clear()
        if called == "ModelInfer" and request:
            seen.append(request.id)
            if "conformance-call-1" in seen and not request.id and not request.parameters:
                return Refused(grpc.StatusCode.INTERNAL)
        return answer

    return change


FAULTS: dict[str, tuple[str, Change]] = {
    "is not live": ("grpc.live", dead_at_first()),
    "is not ready": ("grpc.ready", on("ServerReady", lambda _: pb.ServerReadyResponse(ready=False))),
    "has no version": ("grpc.metadata", on("ServerMetadata", puts(version=""))),
    "names another model": ("grpc.model.metadata", on("ModelMetadata", puts(name="n"))),
    "announces an unknown datatype": ("grpc.model.tensors", on("ModelMetadata", output(0, datatype="FLOAT"))),
    "has a model that is not ready": ("grpc.model.ready", on("ModelReady", puts(ready=False))),
    "announces a version that it lacks": ("grpc.model.versions", on("ModelMetadata", versions)),
    "has no inference": ("grpc.infer", on("ModelInfer", lambda _: Refused(grpc.StatusCode.UNIMPLEMENTED))),
    "answers three rows with fewer elements": (
        "grpc.infer.variable_axes",
        on("ModelInfer", output(0, fp32_contents=[1.0]), lambda request: list(request.inputs[0].shape) == [3, 2]),
    ),
    "reads raw contents otherwise": (
        "grpc.infer.raw_contents",
        on("ModelInfer", lambda answer: [answer.raw_output_contents.__setitem__(0, bytes(4)), answer][1], raw),
    ),
    "answers for another model": ("grpc.infer.model_name", on("ModelInfer", puts(model_name="n"))),
    "gives no outputs": ("grpc.infer.outputs", on("ModelInfer", without_outputs)),
    "gives an output twice": ("grpc.infer.outputs", on("ModelInfer", an_output_twice)),
    "lacks an output that is announced": ("grpc.infer.agreement", on("ModelMetadata", another_output)),
    "gives contents twice": ("grpc.infer.outputs", on("ModelInfer", both_contents)),
    "gives a variable shape": ("grpc.infer.outputs", on("ModelInfer", output(0, shape=[-1]))),
    "gives elements in another field": (
        "grpc.infer.elements",
        on("ModelInfer", output(0, fp32_contents=[], fp64_contents=[1.0])),
    ),
    "answers another datatype than announced": (
        "grpc.infer.agreement",
        on("ModelMetadata", output(0, datatype="INT64")),
    ),
    "loses the id": ("grpc.infer.id", on("ModelInfer", puts(id=""))),
    "gives every output": (
        "grpc.infer.requested_outputs",
        on("ModelInfer", every_output, lambda request: request.outputs),
    ),
    "fails with parameters": (
        "grpc.infer.parameters",
        on(
            "ModelInfer",
            lambda _: Refused(grpc.StatusCode.INTERNAL),
            lambda request: "conformance_number" in request.parameters,
        ),
    ),
    "describes a model that it lacks": ("grpc.error.unknown_model", knows_every_model),
    "answers for a version that it lacks": ("grpc.error.unknown_version", knows_every_version),
    "accepts too few elements": ("grpc.error.wrong_shape", accepts("shape")),
    "accepts too few bytes": ("grpc.error.wrong_raw_length", accepts("raw length")),
    "accepts unknown datatypes": ("grpc.error.unknown_datatype", accepts("datatype")),
    "accepts no inputs": ("grpc.error.missing_inputs", accepts("inputs")),
    "accepts malformed messages": ("grpc.error.malformed_message", accepts("malformed")),
    "is not live after an error": ("grpc.error.live_afterwards", dies_of_missing_inputs()),
    "mixes up ids": (
        "grpc.concurrency",
        on("ModelInfer", puts(id="conformance-call-0"), lambda request: "conformance-call" in request.id),
    ),
    "mixes up answers": (
        "grpc.concurrency",
        on("ModelInfer", output(0, fp32_contents=[0.2]), lambda request: "conformance-call" in request.id),
    ),
    "counts no calls": ("grpc.statistics", on("ModelStatistics", no_successes)),
    "has an empty index": ("grpc.repository.index", on("RepositoryIndex", lambda _: pb.RepositoryIndexResponse())),
    "fails calls with a short deadline": ("grpc.deadline", fails_after_many_calls()),
}  # fmt: skip


def test_a_server_that_conforms_passes_every_check(server):
    """Nothing fails, is undecided or skipped at a server with REST, gRPC and every extension."""
    with tiny_rest_server() as rest:
        report = check(rest.address, grpc=server.address, model="m", allow_changes=True)
    assert [(one.check, one.detail) for one in report.findings if one.verdict is not Verdict.PASSED] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_check_alone(server, fault: str):
    """The check that is meant for the fault fails, and no other check."""
    expected, server.change = FAULTS[fault]
    report = run(server)
    assert [one.check for one in report.failed] == [expected], report.failed
    required = next(one for one in GRPC_CHECKS if one.name == expected).requirement is Requirement.REQUIRED
    assert report.conforms is not required


def test_equal_inputs_with_other_outputs_are_found(server):
    """A server that answers otherwise over REST than over gRPC is told so, which no requirement forbids."""
    with tiny_rest_server() as rest:
        rest.change = lambda exchange: exchange.document.update(
            outputs=[{"name": "sum", "datatype": "FP32", "shape": [1], "data": [7.0]}]
        ) if exchange.infers and exchange.status == 200 else None  # fmt: skip
        report = check(rest.address, grpc=server.address, model="m")
    assert "grpc.equal_to_rest" in {one.check for one in report.failed}


def test_a_small_bound_of_messages_is_found():
    """A server that takes no message above 4 MiB fails the check of large messages alone."""
    with tiny_grpc_server(most_bytes=4 << 20) as server:
        report = run(server)
    assert [(one.check, one.requirement) for one in report.failed] == [("grpc.large_message", Requirement.EXTENSION)]
    assert "RESOURCE_EXHAUSTED" in report.failed[0].detail


def test_the_health_service_has_to_agree(server):
    """A health service that says NOT_SERVING while the server serves fails its check alone."""
    server.serving = health_pb2.HealthCheckResponse.NOT_SERVING
    assert [one.check for one in run(server).failed] == ["grpc.health_service"]


def test_reflection_has_to_list_the_service():
    """Reflection that does not list the inference service fails its check alone."""
    with tiny_grpc_server(listed=("grpc.health.v1.Health",)) as server:
        assert [one.check for one in run(server).failed] == ["grpc.reflection"]


def test_every_check_finds_a_fault():
    """There is a fault for each check, so no check passes whatever the server does."""
    apart = {"grpc.equal_to_rest", "grpc.large_message", "grpc.health_service", "grpc.reflection"}
    assert {expected for expected, _ in FAULTS.values()} | apart == {one.name for one in GRPC_CHECKS}
