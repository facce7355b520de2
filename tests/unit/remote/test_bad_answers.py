"""What a server of a remote model may answer, and whose fault it is."""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np
import pytest

from mendel.errors import ModelFailed, ModelNotLoadable, ModelStopped, NotReady
from mendel.serving import ServingPolicy, frame_of
from mendel.values import Table
from support.scripted_server import answer

POLICY = ServingPolicy(predict_timeout=timedelta(seconds=5), max_body_bytes=1 << 16)
ROWS = frame_of(Table({"a": np.array([1.0, 2.0]), "b": np.array([3.0, np.nan])}), None)


def soon():
    return time.monotonic() + 20


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (answer(1.0), "returned 1 answers for 2 rows"),
        (answer(1.0, 2.0, 3.0), "returned 3 answers for 2 rows"),
        (answer(1.0, 2.0, shape=[3]), r"shape \[3\] with 2 values"),
        (answer(1.0, 2.0, shape=[]), r"shape \[\] with 2 values"),
        (answer(1.0, 2.0, shape=[-1]), "with 2 values"),
        (answer(data={"a": 1}), "with 0 values|0 answers"),
        ({"outputs": []}, "no outputs"),
        ({"outputs": [{}]}, "not an answer of the Open Inference Protocol"),
        ([], "not an answer of the Open Inference Protocol"),
        (b"", "not an answer of the Open Inference Protocol"),
        (b"<html>", "not an answer of the Open Inference Protocol"),
        (b'{"outputs": [{"name": "predict", "datatype": "FP64", "shape": [2], "data": [1, NaN]}]}', "not an answer"),
        (b'{"outputs": ' + b"[" * 5000, "not an answer of the Open Inference Protocol"),
        (answer(1.0, 2.0, shape=[10**4000]), "not an answer|with 2 values"),
        (b"\xff\xfe", "not an answer of the Open Inference Protocol"),
        (answer(1.0, 2.0, parameters={"binary_data_size": 99}), "fewer bytes"),
        (answer(1.0, 2.0, parameters={"binary_data_size": -1}), "fewer bytes"),
        (b" " * (1 << 17), "larger than 65536 bytes"),
    ],
)
def test_an_answer_that_cannot_be_read_is_the_models_fault(load, scripted, body, cause):
    """Whatever comes is a ModelFailed that names the fault, and the next right answer is taken."""
    server = scripted()
    backend = load(server.address, policy=POLICY)
    server.answers(body)
    with pytest.raises(ModelFailed, match=cause):
        backend.predict(ROWS, soon())
    server.answers(answer(1.0, 2.0))
    assert backend.predict(ROWS, soon()).predictions == [1.0, 2.0]


@pytest.mark.parametrize(("status", "cause"), [(200, "not an answer"), (503, "it answered 503")])
def test_a_header_with_too_many_digits_is_no_number(load, scripted, status, cause):
    """A header that Python cannot convert to a number is the fault of the answer, not an error of Mendel."""
    server = scripted()
    backend = load(server.address, policy=POLICY)
    server.answers(answer(1.0, 2.0), status, inference_header_content_length="9" * 5000, retry_after="9" * 5000)
    with pytest.raises((ModelFailed, NotReady), match=cause):
        backend.predict(ROWS, soon())


@pytest.mark.parametrize("path", ["/v2", "/v2/models/m"])
def test_metadata_of_any_depth_cost_no_more_than_the_metadata(load, scripted, path):
    """A server whose metadata cannot be read says so; unreadable metadata of the server itself announce nothing."""
    server = scripted()
    server.answers(b'{"more": ' + b"[" * 5000, path=path)
    if path == "/v2":
        assert load(server.address, policy=POLICY).predict(ROWS, soon()).predictions == [1.0, 2.0]
    else:
        with pytest.raises(NotReady, match="its metadata of the model cannot be read"):
            load(server.address, policy=POLICY)


def test_zmq_replies_of_another_form_are_told(load, scripted_zmq):
    """A state that is a list is no state of a worker that answers; endpoints that are no list announce nothing."""
    model = {"name": "m", "endpoints": 7}
    scripted_zmq.replies["discovery"] = ("worker_info", {"capabilities": {"models": [model]}})
    assert load(scripted_zmq.address).predict(ROWS, soon()).predictions == [1.0, 2.0]
    scripted_zmq.replies["heartbeat"] = ("heartbeat_ack", {"status": ["ready"]})
    with pytest.raises(NotReady, match=r"it says that it is \['ready'\]"):
        load(scripted_zmq.address)


@pytest.mark.parametrize("code", ["unauthenticated", "forbidden"])
def test_a_refused_key_is_not_repeated(load, scripted_zmq, code):
    """The words of a server that refuses a key may repeat the key, so they are left out."""
    scripted_zmq.replies["discovery"] = ("error", {"code": code, "message": "unknown key s3cret"})
    with pytest.raises(NotReady, match="refuses the key") as caught:
        load(scripted_zmq.address)
    assert "s3cret" not in str(caught.value)


def test_null_and_columns_of_one_are_taken(load, scripted):
    """Null stays null; a tensor of shape (rows, 1) has one answer per row."""
    server = scripted()
    server.answers(answer(1.0, None, shape=[2, 1]))
    assert load(server.address, policy=POLICY).predict(ROWS, soon()).predictions == [1.0, None]


@pytest.mark.parametrize(
    ("datatype", "shape", "announced"),
    [("INT32", [-1, 1], ("INT64", (-1,))), ("FP32", [-1, 3], ("FP64", (-1, 3))), ("UINT8", [-1], ("INT64", (-1,))),
     ("BOOL", [-1], ("BOOL", (-1,)))],
)  # fmt: skip
def test_the_announced_outputs_are_those_of_mendels_answers(load, scripted, datatype, shape, announced):
    """Mendel's own metadata tell the datatype and the shape in which it passes the server's answers on."""
    server = scripted()
    told = server.routes["/v2/models/m"][2]
    outputs = [{"name": "label", "datatype": datatype, "shape": shape}]
    server.answers({**told, "outputs": outputs}, path="/v2/models/m")
    assert load(server.address).descriptor.answers == (announced,)


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (400, ModelFailed, "answered HTTP 400: feature b is null"),
        (500, ModelFailed, "answered HTTP 500: feature b is null"),
        (422, ModelFailed, "HTTP 422"),
        (429, NotReady, "it answered 429"),
        (503, NotReady, "it answered 503: feature b is null"),
        (504, NotReady, "it answered 504"),
        (401, NotReady, "refuses the key"),
        (404, NotReady, "no such model"),
        (307, NotReady, "redirects to another address"),
    ],
)
def test_a_status_says_whose_fault_it_is(load, scripted, status, error, told):
    """Errors of the model are its fault; a busy, unknown or redirecting server is not the version's fault."""
    server, other = scripted(), scripted()
    backend = load(server.address, policy=POLICY)
    server.answers(
        {"error": "feature b is null"}, status, location=f"{other.address}/v2/models/m/infer", retry_after="7"
    )
    with pytest.raises(error, match=told) as caught:
        backend.predict(ROWS, soon())
    if error is ModelFailed:
        assert (caught.value.kind, caught.value.at) == (f"HTTP {status}", server.address)
    elif status in {429, 503, 504}:
        assert caught.value.retry_after == timedelta(seconds=7)
    assert other.seen == []


def test_the_key_is_sent_and_never_stored(load, scripted, tmp_path):
    """The key comes from the named variable; without the variable nothing is sent, and the version is not blamed."""
    server = scripted()
    for given in ({}, {"REMOTE_MODEL_KEY_A": "s3\ncret"}, {"REMOTE_MODEL_KEY_A": "s3crét"}):
        with pytest.raises(NotReady, match="REMOTE_MODEL_KEY_A is not set to the key") as caught:
            load(server.address, key_variable="REMOTE_MODEL_KEY_A", environment=given)
        assert "s3" not in str(caught.value)
    assert server.seen == []
    backend = load(server.address, key_variable="REMOTE_MODEL_KEY_A", environment={"REMOTE_MODEL_KEY_A": "s3cret\n"})
    assert {headers["authorization"] for _, headers, _ in server.seen} == {"Bearer s3cret"}
    server.answers({"error": "no"}, 401)
    with pytest.raises(NotReady) as caught:
        backend.predict(ROWS, soon())
    told = [str(caught.value), repr(backend.place), *(path.read_text() for path in tmp_path.rglob("MLmodel"))]
    assert not any("s3cret" in text for text in told)


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        ([{"name": "image", "datatype": "FP32", "shape": [-1, 3, 224, 224]}], "one value per row and column"),
        ([{"name": n, "datatype": "FP64", "shape": [-1, 2]} for n in "ab"], "one value per row and column"),
        ([{"name": "a", "datatype": "FP8", "shape": [-1]}], "datatype 'FP8'"),
        ([{"name": "a", "datatype": "INT64", "shape": [-1, -1]}], "does not say how many columns"),
    ],
)
def test_inputs_that_no_rows_fit_are_refused_at_the_load(load, scripted, inputs, cause):
    """The version cannot be loaded, and the message names the input."""
    server = scripted()
    server.answers({"inputs": inputs, "outputs": []}, path="/v2/models/m")
    with pytest.raises(ModelNotLoadable, match=cause):
        load(server.address, policy=POLICY)


def test_a_server_that_is_down_is_no_fault_of_the_version(load, scripted):
    """A load without a server that answers is NotReady, with every reason."""
    server, other = scripted(), scripted()
    other.routes.pop("/v2/models/m")
    server.stop()
    with pytest.raises(NotReady, match=r"cannot be reached.*no such model"):
        load(server.address, other.address)


def test_a_call_beyond_the_limit_is_a_fault_while_the_server_lives(load, scripted):
    """The call takes longer than predict_timeout, and the server answers its health check."""
    server = scripted()
    backend = load(server.address, policy=ServingPolicy(predict_timeout=timedelta(seconds=0.2)))
    server.silent.add("/v2/models/m/infer")
    with pytest.raises(ModelStopped, match=r"took longer than 0\.2 s"):
        backend.predict(ROWS, soon())


@pytest.mark.parametrize("headers", [{}, {"connection": "close"}, {"connection": "close", "content_length": None}])
def test_an_answer_that_trickles_in_is_ended(load, scripted, headers):
    """A server that sends a byte now and then cannot hold a call longer than its limit and a health check."""
    server = scripted()
    backend = load(server.address, policy=ServingPolicy(predict_timeout=timedelta(seconds=0.2)))
    server.answers(answer(1.0, 2.0), **headers)
    server.trickles.add("/v2/models/m/infer")
    with pytest.raises(ModelStopped, match=r"took longer than 0\.2 s"):
        backend.predict(ROWS, soon())
