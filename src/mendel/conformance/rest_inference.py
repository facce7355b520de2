"""Checks of the inference endpoint over REST."""

from __future__ import annotations

from typing import Final

from mendel.conformance.inference import expect_version
from mendel.conformance.outcomes import NotOffered, Undecided, Violation, expect, shown
from mendel.conformance.rest_errors import refusal
from mendel.conformance.rest_server import BUSY, RestServer, output_fields, outputs_of, request

_ID: Final = "conformance-1"
_LEAST_SERVER_ERROR: Final = 500


def model_name(server: RestServer) -> str:
    """Expect that the answer names the model."""
    named = server.sample().answer.object.get("model_name")
    expect(named == server.model, f"The answer has the model_name {shown(named)}.")
    return ""


def model_version(server: RestServer) -> str:
    """Expect that a version in the answer is text, and one of the announced versions if there are any."""
    stated, versions = server.sample().answer.object.get("model_version"), server.versions()
    is_text = stated is None or isinstance(stated, str)
    expect(is_text, f"The answer has the model_version {shown(stated)}, which is not text.")
    return expect_version(stated, versions)


def outputs(server: RestServer) -> str:
    """Expect that each output has a name, a known datatype and a shape."""
    found = output_fields(server.sample().answer.object)
    return ", ".join(f"{shown(one['name'], 40)} {one['datatype']} {one['shape']}" for one in found)


def output_elements(server: RestServer) -> str:
    """Expect that each output has as many elements as its shape says, each of its datatype."""
    document = server.sample().answer.object
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
    given = server.readable(server.sample().answer)
    wanted = given[-1].name
    reply = server.answered(request(server.sample().inputs, outputs=[{"name": wanted}]))
    returned = [one.name for one in server.readable(reply)]
    expect(returned == [wanted], f"Output {shown(wanted)} was requested, {shown(returned)} returned.")
    if len(given) == 1:
        raise NotOffered("The model has one output, so there is nothing to leave out.")
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
    is_callers = reply.status < _LEAST_SERVER_ERROR or reply.status in BUSY
    expect(is_callers, f"Parameters are not refused as the caller's mistake: {reply}")
    refusal(reply)
    server.answered({**body, "parameters": {}})
    return "unknown parameters are refused"


def answer_parameters(server: RestServer) -> str:
    """Expect that each parameter of an answer is text, a number or a boolean."""
    given = server.sample().answer.object.get("parameters") or {}
    expect(isinstance(given, dict), f"The parameters are not an object: {shown(given)}")
    odd = [name for name, value in given.items() if not isinstance(value, str | int | float | bool)]
    expect(not odd, f"Parameters of another type: {shown(', '.join(odd))}.")
    return f"{len(given)} parameters"
