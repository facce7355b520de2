"""Checks of errors over REST: refused requests get an error status and text, and do no harm."""

from __future__ import annotations

from typing import Any, Final

from mendel.conformance.inference import some_inputs
from mendel.conformance.outcomes import NotOffered, Undecided, expect
from mendel.conformance.rest_server import ABSENT, BUSY, DENIED, Reply, RestServer, request

UNKNOWN: Final = "conformance-no-such-model"
UNKNOWN_VERSION: Final = "987654321"
_LEAST_ERROR: Final = 400
_LEAST_SERVER_ERROR: Final = 500


def refusal(reply: Reply) -> str:
    """
    Expect an error status, and a JSON object with the text of the error.

    Raises:
        Undecided: The server turned the request away for another reason: it is busy, or needs another key.
    """
    expect(reply.status >= _LEAST_ERROR, f"The request was not refused: {reply}")
    if reply.status in BUSY | DENIED:
        raise Undecided(f"The server turns the request away for another reason: {reply}")
    error = reply.object.get("error")
    expect(isinstance(error, str) and bool(error), f"The error has no text 'error': {reply}")
    if reply.status >= _LEAST_SERVER_ERROR:
        return f"status {reply.status}, though the request is at fault"
    return f"status {reply.status}"


def unknown_model(server: RestServer) -> str:
    """Expect an error for a model that does not exist, from the metadata and the inference endpoint."""
    path = server.path_of(UNKNOWN)
    ready = server.get(f"{path}/ready")
    expect(not ready.ok or b"false" in ready.body, f"A model that does not exist is ready: {ready}")
    refusal(server.get(path))
    return refusal(server.post(f"{path}/infer", request(some_inputs(server))))


def unknown_version(server: RestServer) -> str:
    """Expect an error for a version that does not exist, if the model has versions."""
    if not server.versions():
        raise NotOffered("The model announces no versions.")
    path = server.path_of(server.model, UNKNOWN_VERSION)
    refusal(server.get(path))
    return refusal(server.post(f"{path}/infer", request(some_inputs(server))))


def wrong_shape(server: RestServer) -> str:
    """Expect an error if an input has fewer elements than its shape says."""
    return _refused_input(
        server.infer(_changed(server, shape=[one + 1 for one in server.sample().inputs[0].shape] or [2]))
    )


def unknown_datatype(server: RestServer) -> str:
    """Expect an error for a datatype that the protocol does not have."""
    return _refused_input(server.infer(_changed(server, datatype="FP99")))


def wrong_element(server: RestServer) -> str:
    """Expect an error if an element cannot be converted to the datatype of its input."""
    numeric = [one for one in server.sample().inputs if one.datatype != "BYTES" and one.values]
    if not numeric:
        raise NotOffered("All inputs are BYTES.")
    inputs = request(server.sample().inputs)["inputs"]
    for one in inputs:
        if one["name"] == numeric[0].name:
            one["data"] = ["not a number", *one["data"][1:]]
    return _refused_input(server.infer({"inputs": inputs}))


def missing_inputs(server: RestServer) -> str:
    """Expect an error for a request without inputs."""
    return _refused_input(server.infer({"id": "conformance"}))


def not_json(server: RestServer) -> str:
    """Expect an error for a body that is not JSON."""
    return _refused_input(server.infer(b"{this is not JSON"))


def live_after_errors(server: RestServer) -> str:
    """Expect that the server is live after the refused requests, and answers as before."""
    reply = server.get("/v2/health/live")
    expect(reply.ok, str(reply))
    server.expect_equal(server.answered(request(server.sample().inputs)), "The request from before the errors")
    return ""


def _changed(server: RestServer, **fields: Any) -> dict[str, Any]:
    first, *others = request(server.sample().inputs)["inputs"]
    return {"inputs": [first | fields, *others]}


def _refused_input(reply: Reply) -> str:
    """Expect an error for what stands in an inference request, from a server that answers such requests."""
    if reply.status in ABSENT:
        raise Undecided(f"The server does not answer inference requests: {reply}")
    return refusal(reply)
