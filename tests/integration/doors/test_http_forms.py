"""One stream of bytes, cut into pieces anywhere, gets the same answers from the fast and the standard form."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.transports.rest.door import REST
from support.doors import open_door
from support.http_bytes import Connection, request
from support.served_models import Shelf, deployed, new_kernel, write_project

ROW = b'{"instances": [[1, 2, 3]]}'
V2 = b'{"id": "7", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}'
BINARY = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}'
BODIES = {
    "/v1/sum/predict": [ROW, b'{"a": 1, "b": 2, "c": 3}', b"{", b"", b'{"instances": [[1]]}', b"[" * 100],
    "/v1/proba/predict_proba": [ROW],
    "/v1/nobody/predict": [ROW],
    "/v1/s%75m/predict?x=1#y": [ROW],
    "/invocations?model=sum": [ROW, b"a,b,c\n1,2,3\n"],
    "/v2/models/sum/infer": [V2, BINARY + b"\0" * 12],
    "/v2/models/sum/versions/9/infer": [V2],
    "/monitoring/labels": [b"{}"],
    "/nothing": [ROW],
    "/healthz": [ROW],
}
HEADERS = (
    *("content-type: text/csv", "content-type: application/json", "authorization: Bearer wrong", "origin: null"),
    *(
        "x-request-id: \u00b2",
        "x-request-id: a",
        "x-event-time: never",
        "traceparent: x",
        "x-routing-key: 1",
        "x-empty:",
    ),
    *("content-encoding: br", "content-encoding: identity", f"inference-header-content-length: {len(BINARY)}"),
)
VOLATILE = ("time_ms", "timestamp", "prediction_id", "prediction_ids")


@st.composite
def requests(draw):
    """A request of some route: its bytes, and its method."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body = draw(st.sampled_from(BODIES[path]))
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    method = draw(st.sampled_from(("POST", "POST", "POST", "GET", "HEAD", "DELETE")))
    if method == "POST" and draw(st.booleans()):
        packed = draw(st.booleans())
        body = gzip.compress(body) if packed else body
        headers = [*headers, *(["content-encoding: gzip"] if packed else []), "transfer-encoding: chunked"]
        cut = draw(st.integers(0, len(body)))
        parts = [part for part in (body[:cut], body[cut:]) if part]
        chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts)
        return method, request(path, headers=headers) + chunks + draw(
            st.sampled_from((b"0\r\n\r\n", b"0\r\nx-a: b\r\n\r\n"))
        )
    return method, request(path, body, method=method, headers=headers)


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Both forms on one kernel: gives the loop in which they run, and their ports."""
    directory = tmp_path_factory.mktemp("forms")
    write_project(directory)
    shelf = Shelf(directory)
    shelf.put("sum", 1)
    shelf.put("proba", 1)

    async def opened(stack):
        kernel = await stack.enter_async_context(new_kernel(shelf))
        await kernel.apply(shelf.desire(deployed("sum"), deployed("proba")), shelf.fetch)
        return [await open_door(REST, stack, stack, kernel, directory, fast=fast) for fast in (False, True)]

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner, runner.run(opened(stack))
        runner.run(stack.aclose())


async def answers(port, sent, pieces):
    connection = await Connection.to(port)
    try:
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(0)  # the server reads this piece by itself
        return [told(await connection.answer(to=method)) for method, _ in sent]
    finally:
        await connection.close()


def told(answer):
    """What both forms say alike of an answer."""
    body = answer.body
    if answer.status == 200 and answer.headers["content-type"] == "application/json" and body:
        document = json.loads(body)
        body = {key: value for key, value in document.items() if key not in VOLATILE}
    known = {name: answer.headers.get(name) for name in ("content-type", "allow", "retry-after", "connection", "vary")}
    return answer.status, known, len(answer.headers["x-request-id"]), body


@given(data=st.data(), sent=st.lists(requests(), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_forms_answer_alike(forms, data, sent):
    """Status, content type and body of each answer are equal, wherever the stream is cut."""
    runner, (standard, fast) = forms
    stream = b"".join(content for _, content in sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert runner.run(answers(fast, sent, pieces)) == runner.run(answers(standard, sent, [stream]))
