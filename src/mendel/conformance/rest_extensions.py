"""Checks of the extensions of the protocol over REST that a server announces."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from mendel.conformance.outcomes import NotOffered, Undecided, Violation, expect, shown
from mendel.conformance.rest_server import (
    DENIED,
    HEADER_LENGTH,
    Reply,
    RestServer,
    output_fields,
    request,
)
from mendel.conformance.tensors import Tensor, from_raw, to_raw

_POLL_S: Final = 0.05
_MOST_DIGITS: Final = 18


def binary_inputs(server: RestServer) -> str:
    """Expect that inputs may follow the JSON as bytes."""
    _require(server, "binary_tensor_data")
    sample = server.sample()
    raws = [to_raw(one) for one in sample.inputs]
    head = request(sample.inputs)
    for one, raw in zip(head["inputs"], raws, strict=True):
        del one["data"]
        one["parameters"] = {"binary_data_size": len(raw)}
    text = json.dumps(head).encode()
    reply = server.answered(
        text + b"".join(raws), {HEADER_LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}
    )
    server.expect_equal(reply, "The request with binary inputs")
    return f"{sum(map(len, raws))} bytes"


def binary_outputs(server: RestServer) -> str:
    """Expect that outputs follow the JSON as bytes if the request asks for that."""
    _require(server, "binary_tensor_data")
    sample = server.sample()
    reply = server.answered(request(sample.inputs, parameters={"binary_data_output": True}))
    outputs = _binary_outputs(reply)
    server.expect_outputs(outputs, "The request for binary outputs")
    return f"{len(outputs)} outputs"


def repository_index(server: RestServer) -> str:
    """Expect the model in the index of the repository."""
    _require(server, "model_repository")
    reply = _allowed(server.post("/v2/repository/index", {}))
    names = names_in_index(reply)
    expect(server.model in names, f"The index does not list the model: {reply.text}")
    return f"{len(names)} entries"


def repository_reload(server: RestServer) -> str:
    """Expect that the model is not ready after an unload, and ready after a load."""
    _require(server, "model_repository")
    if not server.allow_changes:
        raise NotOffered("Not tried, because it changes what the server serves; allow it with --allow-changes.")
    path = f"/v2/repository/models/{server.path.split('/')[3]}"
    try:
        _allowed(server.post(f"{path}/unload", {}))
        _until(
            lambda: not server.get(f"{server.path}/ready").ok, server.seconds, "The model is ready after the unload."
        )
    finally:
        reply = server.post(f"{path}/load", {})
    expect(reply.ok, str(reply))
    _until(lambda: server.get(f"{server.path}/ready").ok, server.seconds, "The model is not ready after the load.")
    server.expect_equal(server.answered(request(server.sample().inputs)), "The request after the load")
    return ""


def statistics(server: RestServer) -> str:
    """Expect that the statistics of the model count a successful request."""
    _require(server, "statistics")
    server.sample()
    before = _successes(server)
    server.answered(request(server.sample().inputs))
    after = _successes(server)
    expect(after > before, f"The model counted {before} requests with success, and {after} after one more.")
    return f"{after} requests with success"


def names_in_index(reply: Reply) -> tuple[str, ...]:
    """
    Give the names in an index of the repository.

    Raises:
        Violation: The reply is not a list of objects with names.
    """
    try:
        return tuple(entry["name"] for entry in json.loads(reply.body))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Violation(f"The index is not a list of objects with names: {reply.text}") from error


def _require(server: RestServer, extension: str) -> None:
    try:
        extensions = server.get("/v2").object.get("extensions")
    except Violation:
        extensions = None
    if not isinstance(extensions, list) or extension not in extensions:
        raise NotOffered(f"The server does not announce {extension!r}.")


def _allowed(reply: Reply) -> Reply:
    if reply.status in DENIED:
        raise Undecided(f"The server needs another key: {reply}")
    expect(reply.ok, str(reply))
    return reply


def _binary_outputs(reply: Reply) -> tuple[Tensor, ...]:
    length = reply.headers.get(HEADER_LENGTH, "")
    expect(
        length.isdecimal() and len(length) <= _MOST_DIGITS,
        f"The answer has the header {HEADER_LENGTH}: {shown(length)}",
    )
    split = int(length)
    document = Reply(reply.asked, reply.status, reply.headers, reply.body[:split]).object
    outputs = []
    for one in output_fields(document):
        given = one.get("parameters")
        size = given.get("binary_data_size") if isinstance(given, dict) else None
        if type(size) is not int or size < 0:
            raise Violation(f"Output {shown(one['name'])} has the binary_data_size {shown(size)}.")
        raw, split = reply.body[split : split + size], split + size
        outputs.append(from_raw(raw, one["name"], one["datatype"], one["shape"]))
    expect(split == len(reply.body), f"The answer has {len(reply.body) - split} bytes after the last output.")
    return tuple(outputs)


def _successes(server: RestServer) -> int:
    reply = _allowed(server.get(f"{server.path_of(server.model)}/stats"))
    try:
        found = [entry for entry in reply.object["model_stats"] if entry["name"] == server.model]
        counts = [entry["inference_stats"]["success"]["count"] for entry in found]
    except (TypeError, KeyError) as error:
        raise Violation(f"The statistics have no {shown(str(error))}: {reply.text}") from error
    expect(bool(counts) and all(type(count) is int for count in counts), f"The model is not counted: {reply.text}")
    return sum(counts)


def _until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, otherwise)
        time.sleep(_POLL_S)
