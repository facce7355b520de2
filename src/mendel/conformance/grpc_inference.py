"""Checks of inference calls over gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, Final

import grpc

from mendel.conformance.grpc_server import (
    BUSY,
    GrpcServer,
    Refusal,
    check_outputs,
    outputs_of,
    parameters,
)
from mendel.conformance.inference import expect_version
from mendel.conformance.outcomes import NotOffered, Undecided, Violation, expect, shown
from mendel.conformance.rest_load import AT_ONCE

_ID: Final = "conformance-1"


def raw_contents(server: GrpcServer) -> str:
    """Expect that raw contents mean the same as typed contents."""
    answer = server.answered("ModelInfer", server.message(server.sample().inputs, raw=True))
    server.expect_equal(answer, "The request with raw contents")
    return "raw answer" if answer.raw_output_contents else "typed answer"


def model_name(server: GrpcServer) -> str:
    """Expect that the answer names the model, and a version only if that is an announced one."""
    answer, versions = server.sample().answer, list(server.metadata().versions)
    expect(answer.model_name == server.model, f"The answer has the model_name {shown(answer.model_name)!r}.")
    return expect_version(answer.model_version, versions)


def outputs(server: GrpcServer) -> str:
    """Expect that each output has a name, a known datatype, a shape, and contents in one form."""
    answer = server.sample().answer
    check_outputs(answer)
    return ", ".join(f"{shown(one.name, 40)} {one.datatype} {list(one.shape)}" for one in answer.outputs)


def output_elements(server: GrpcServer) -> str:
    """Expect that each output has as many elements as its shape says, in the field of its datatype."""
    answer = server.sample().answer
    try:
        check_outputs(answer)
    except Violation as violation:
        raise Undecided(f"The outputs cannot be read: {violation}") from violation
    return f"{sum(len(one.values) for one in outputs_of(answer))} elements"


def request_id(server: GrpcServer) -> str:
    """Expect that the answer has the id of the request."""
    answer = server.answered("ModelInfer", server.message(server.sample().inputs, id=_ID))
    expect(answer.id == _ID, f"The request has the id {_ID!r}, the answer {shown(answer.id)!r}.")
    return ""


def requested_outputs(server: GrpcServer) -> str:
    """Expect only the requested output in the answer."""
    given = server.readable(server.sample().answer)
    message = server.message(server.sample().inputs)
    message.outputs.add(name=given[-1].name)
    returned = [one.name for one in server.readable(server.answered("ModelInfer", message))]
    expect(returned == [given[-1].name], f"Output {shown(given[-1].name)} was requested, {shown(returned)} returned.")
    if len(given) == 1:
        raise NotOffered("The model has one output, so there is nothing to leave out.")
    return f"{shown(given[-1].name)} of {len(given)} outputs"


def request_parameters(server: GrpcServer) -> str:
    """Expect that a request may have parameters; a server may refuse parameters that it does not know."""
    own = parameters({"conformance_text": "a", "conformance_number": 1, "conformance_boolean": True})
    message = server.message(server.sample().inputs, parameters=own)
    answer = server.call("ModelInfer", message)
    if isinstance(answer, Refusal):
        expect(answer.code is grpc.StatusCode.INVALID_ARGUMENT, f"Parameters end the call otherwise: {answer}")
        return f"unknown parameters are refused: {answer.code.name}"
    return "unknown parameters are accepted"


def concurrency(server: GrpcServer) -> str:
    """Expect that each of 32 calls at once gets its own answer."""
    try:
        request_id(server)
    except Violation as violation:
        raise Undecided(f"Without ids, answers cannot be told apart: {violation}") from violation
    samples = server.samples() if server.repeats() else (server.sample(),) * 2
    barrier = Barrier(AT_ONCE)

    def ask(number: int) -> Any:
        barrier.wait()
        return server.call("ModelInfer", server.message(samples[number % 2].inputs, id=f"conformance-call-{number}"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, range(AT_ONCE)))
    busy = [one for one in answers if isinstance(one, Refusal) and one.code in BUSY]
    if busy:
        raise Undecided(f"{len(busy)} of {AT_ONCE} calls met a busy server: {busy[0]}")
    for number, answer in enumerate(answers):
        expect(not isinstance(answer, Refusal), str(answer))
        expect(answer.id == f"conformance-call-{number}", f"Call {number} got the answer {shown(answer.id)!r}.")
        if server.repeats():
            server.expect_equal(answer, f"Call {number}", of=samples[number % 2])
    return f"{AT_ONCE} calls{'' if samples[0] is not samples[1] else ' with equal answers'}"


def deadline(server: GrpcServer) -> str:
    """Expect that a call with a short deadline ends with DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED or its answer."""
    message = server.message(server.sample().inputs)
    seen = set()
    for milliseconds in (1, 2, 5):
        answer = server.call("ModelInfer", message, seconds=milliseconds / 1000)
        seen.add(answer.code.name if isinstance(answer, Refusal) else "OK")
    allowed = {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    expect(seen <= allowed, f"Calls with a short deadline end with {', '.join(sorted(seen))}.")
    server.answered("ModelInfer", message)
    return ", ".join(sorted(seen))
