"""Checks of the inference endpoint over REST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mendel.conformance.outcomes import NotOffered, Undecided, Violation, expect, shown
from mendel.conformance.rest_server import RestServer, announced, output_fields, outputs_of, readable, request
from mendel.conformance.tensors import AnnouncedTensor, Tensor

ABSENT: Final = frozenset({0, 404, 405, 501})
"""The statuses of an endpoint that the server does not have, and of no answer."""
_ID: Final = "conformance-1"
_ROWS: Final = 3


def infer(server: RestServer) -> str:
    """Expect that inputs made from the metadata are answered with status 200 and a JSON object."""
    try:
        sample = server.sample()
    except Undecided:
        if not server.refusals:
            raise
        last = server.refusals[-1]
        if server.given is not None:
            raise Violation(f"The given request is refused: {last}") from None
        if all(reply.status in ABSENT for reply in server.refusals):
            raise Violation(f"The server has no inference endpoint: {last}") from None
        raise Undecided(
            f"All {len(server.refusals)} made requests were refused, perhaps because of their content; "
            f"pass a request that the model accepts. {last}"
        ) from None
    _ = sample.reply.object
    return "the given request" if sample.content is None else f"made inputs, {_content(sample.inputs)}"


def variable_axes(server: RestServer) -> str:
    """Expect that axes announced as -1 may have the length 3."""
    if not any(-1 in one.shape for one in server.inputs()):
        raise NotOffered("No input has a variable axis.")
    inputs = server.sample_of_rows(_ROWS)
    readable(server.sample().reply)
    reply = server.infer(request(inputs))
    if not reply.ok:
        raise Undecided(
            f"The server refuses axes of length {_ROWS}, perhaps because the model cannot have them: {reply}"
        )
    outputs = outputs_of(reply.object)
    return f"shapes {', '.join(str(list(one.shape)) for one in outputs)}"


def model_name(server: RestServer) -> str:
    """Expect that the answer names the model."""
    named = server.sample().reply.object.get("model_name")
    expect(named == server.model, f"The answer has the model_name {shown(named)}.")
    return ""


def model_version(server: RestServer) -> str:
    """Expect that a version in the answer is text, and one of the announced versions if there are any."""
    stated, versions = server.sample().reply.object.get("model_version"), server.versions()
    if stated is None:
        return "the answer names no version"
    expect(isinstance(stated, str), f"The answer has the model_version {shown(stated)}, which is not text.")
    expect(
        not versions or stated in versions, f"Version {shown(stated)} answered; {shown(list(versions))} are announced."
    )
    return shown(stated)


def outputs(server: RestServer) -> str:
    """Expect that each output has a name, a known datatype and a shape."""
    found = output_fields(server.sample().reply.object)
    return ", ".join(f"{shown(one['name'], 40)} {one['datatype']} {one['shape']}" for one in found)


def output_elements(server: RestServer) -> str:
    """Expect that each output has as many elements as its shape says, each of its datatype."""
    document = server.sample().reply.object
    try:
        output_fields(document)
    except Violation as violation:
        raise Undecided(f"The outputs cannot be read: {violation}") from violation
    return f"{sum(len(one.values) for one in outputs_of(document))} elements"


def request_id(server: RestServer) -> str:
    """Expect that the answer has the id of the request."""
    reply = server.answered(request(server.sample().inputs, id=_ID))
    returned = reply.object.get("id")
    expect(returned == _ID, f"The request has the id {_ID!r}, the answer {shown(returned)}.")
    return ""


def requested_outputs(server: RestServer) -> str:
    """Expect only the requested output in the answer."""
    given = readable(server.sample().reply)
    wanted = given[-1].name
    reply = server.answered(request(server.sample().inputs, outputs=[{"name": wanted}]))
    returned = [one.name for one in readable(reply)]
    expect(returned == [wanted], f"Output {shown(wanted)} was requested, {shown(returned)} returned.")
    return f"{shown(wanted)} of {len(given)} outputs"


def nested_data(server: RestServer) -> str:
    """Expect that nested lists of elements mean the same as a flat list."""
    inputs = server.sample().inputs
    if not any(len(one.shape) > 1 for one in inputs):
        raise NotOffered("No input has two axes.")
    server.expect_equal(server.answered(request(inputs, as_nested=True)), "Nested data")
    return ""


def parameters(server: RestServer) -> str:
    """Expect that a request may have parameters; a server may refuse parameters that it does not know."""
    own = {"conformance_text": "a", "conformance_number": 1, "conformance_boolean": True}
    body = request(server.sample().inputs, parameters=own)
    body["inputs"] = [{**one, "parameters": {}} for one in body["inputs"]]
    reply = server.infer(body)
    if reply.ok:
        return "unknown parameters are accepted"
    server.answered({**body, "parameters": {}})
    return "unknown parameters are refused"


def agreement(server: RestServer) -> str:
    """Expect that the outputs have the announced names, datatypes and shapes; the width of floats may differ."""
    try:
        expected = announced(server.metadata(), "outputs")
    except Violation as violation:
        raise Undecided(f"The announced outputs cannot be read: {violation}") from violation
    return outputs_agree(readable(server.sample().reply), expected)


def outputs_agree(given: Sequence[Tensor], expected: Sequence[AnnouncedTensor]) -> str:
    """
    Expect that the outputs *given* are among those that the metadata announces.

    Raises:
        NotOffered: The metadata announces no outputs.
        Violation: An output is not announced, or has another datatype or shape.
    """
    if not expected:
        raise NotOffered("The metadata announces no outputs.")
    by_name, remarks = {one.name: one for one in expected}, []
    for one in given:
        spec = by_name.get(one.name)
        if spec is None:
            raise Violation(f"Output {shown(one.name)} is not announced.")
        if one.datatype != spec.datatype:
            floats = one.datatype.startswith("FP") and spec.datatype.startswith("FP")
            expect(floats, f"Output {shown(one.name)} is announced as {spec.datatype}, but is {one.datatype}.")
            remarks.append(f"{shown(one.name)} is announced as {spec.datatype}, but is {one.datatype}")
        fits = len(one.shape) == len(spec.shape) and all(
            axis in {-1, length} for axis, length in zip(spec.shape, one.shape, strict=True)
        )
        expect(fits, f"Output {shown(one.name)} is announced as {list(spec.shape)}, but is {list(one.shape)}.")
    return "; ".join(remarks)


def repetition(server: RestServer) -> str:
    """Expect equal answers to equal requests."""
    expect(server.repeatable(), "Two equal requests get different answers.")
    return ""


def answer_parameters(server: RestServer) -> str:
    """Expect that each parameter of an answer is text, a number or a boolean."""
    given = server.sample().reply.object.get("parameters") or {}
    expect(isinstance(given, dict), f"The parameters are not an object: {shown(given)}")
    odd = [name for name, value in given.items() if not isinstance(value, str | int | float | bool)]
    expect(not odd, f"Parameters of another type: {shown(', '.join(odd))}.")
    return f"{len(given)} parameters"


def _content(inputs: Sequence[Tensor]) -> str:
    return ", ".join(f"{one.datatype} {list(one.shape)}" for one in inputs[:3]) + ("..." if len(inputs) > 3 else "")  # noqa: PLR2004
