"""Which server of a remote model gets a call, and what happens when one does not answer."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta

import grpc
import numpy as np
import pytest

from mendel.adapters.remote.discovery import client_of
from mendel.adapters.remote.server_client import Attempt, Moved, Overdue, Unreachable
from mendel.errors import DeadlineExceeded, ModelFailed, NotReady
from mendel.protos import open_inference_pb2 as pb
from mendel.protos import open_inference_pb2_grpc as stubs
from mendel.serving import RemoteAddress, RemoteModel, ServingPolicy, frame_of
from mendel.values import Table
from support.scripted_server import answer
from support.waiting import until

ROWS = frame_of(Table({"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}), None)
INFER = "/v2/models/m/infer"


def soon():
    return time.monotonic() + 20


def calls(server):
    return Counter(path for path, _, _ in server.seen)[INFER]


class EarlyModel(stubs.GRPCInferenceServiceServicer):
    """Answers questions about the model; gives up a call 0.05 s before its end."""

    def ModelMetadata(self, request, context):  # noqa: N802 - a name of the protocol
        inputs = [pb.ModelMetadataResponse.TensorMetadata(name=name, datatype="FP64", shape=[-1]) for name in "ab"]
        return pb.ModelMetadataResponse(name=request.name, inputs=inputs, outputs=inputs[:1])

    def ModelReady(self, request, context):  # noqa: N802 - a name of the protocol
        return pb.ModelReadyResponse(ready=True)

    def ModelInfer(self, request, context):  # noqa: N802 - a name of the protocol
        threading.Event().wait(context.time_remaining() - 0.05)
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the time is nearly over")


@contextmanager
def early_server():
    server = grpc.server(ThreadPoolExecutor(4))
    stubs.add_GRPCInferenceServiceServicer_to_server(EarlyModel(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@pytest.fixture
def pair(scripted, load):
    """Two servers that answer 1, 2 and 3, 4, both ready, and the backend over them."""
    one, other = scripted(), scripted()
    other.answers(answer(3.0, 4.0))
    backend = load(one.address, other.address)
    until(lambda: all(server.status == "healthy" for server in backend.place.external_api))
    return one, other, backend


def test_calls_are_spread(pair):
    """Equal servers get equal shares of calls in a row."""
    one, other, backend = pair
    answers = [backend.predict(ROWS, soon()).predictions[0] for _ in range(6)]
    assert sorted(answers) == [1.0] * 3 + [3.0] * 3
    assert (calls(one), calls(other)) == (3, 3)


def test_a_server_that_ends_costs_no_call(pair):
    """Every call is answered by the other server, and the state tells which one is gone and why."""
    one, _, backend = pair
    one.stop()
    assert [backend.predict(ROWS, soon()).predictions for _ in range(4)] == [[3.0, 4.0]] * 4
    until(lambda: backend.place.external_api[0].status != "healthy")
    gone, here = backend.place.external_api
    assert (gone.address, gone.status, here.status) == (one.address, "unhealthy", "healthy")
    assert "cannot be reached" in gone.detail
    assert backend.died is None


def test_a_busy_server_is_spared(pair):
    """After a 503 the call and the next ones go to the other server, until the second of grace is over."""
    one, _, backend = pair
    one.answers({"error": "full"}, 503)
    assert [backend.predict(ROWS, soon()).predictions for _ in range(6)] == [[3.0, 4.0]] * 6
    assert calls(one) <= 2


@pytest.mark.parametrize("body", [b'{"outputs"', b""])
def test_an_answer_that_breaks_off_is_asked_again_elsewhere(pair, body):
    """A connection that is lost in the middle of an answer costs no call."""
    one, _, backend = pair
    one.answers(body, content_length="50")
    assert [backend.predict(ROWS, soon()).predictions for _ in range(2)] == [[3.0, 4.0]] * 2


def test_a_server_that_refuses_calls_is_left(pair):
    """A server without the model gets no more calls, although its health check says that the model is ready."""
    one, _, backend = pair
    for path in (INFER, "/v2/models/m"):
        one.answers({"error": "unknown"}, 404, path=path)
    assert [backend.predict(ROWS, soon()).predictions for _ in range(6)] == [[3.0, 4.0]] * 6
    until(lambda: backend.place.external_api[0].status == "unhealthy")
    assert "no such model" in backend.place.external_api[0].detail
    assert calls(one) <= 2


def test_a_fault_of_the_model_is_not_asked_again(pair):
    """An error of the model is not tried on the other server, which runs the same model."""
    one, other, backend = pair
    for server in (one, other):
        server.answers({"error": "negative"}, 500)
    with pytest.raises(ModelFailed, match="negative"):
        backend.predict(ROWS, soon())
    assert calls(one) + calls(other) == 1


def test_a_server_is_left_and_taken_back(scripted, load):
    """While the only server is not ready, calls fail at once with its reason; they succeed when it is ready again."""
    server = scripted()
    backend = load(server.address)
    ready = server.routes["/v2/models/m/ready"]
    server.answers({"error": "loading"}, 503, path="/v2/models/m/ready")
    until(lambda: backend.died)
    assert "it answered 503: loading" in backend.died
    with pytest.raises(NotReady, match="loading") as caught:
        backend.predict(ROWS, soon())
    assert caught.value.retry_after
    assert calls(server) == 0
    server.routes["/v2/models/m/ready"] = ready
    until(lambda: backend.died is None)
    assert backend.predict(ROWS, soon()).predictions == [1.0, 2.0]


def test_a_server_of_another_model_is_not_used(scripted, load):
    """A server that takes other columns gets no call, and the state tells what differs."""
    one, other = scripted(), scripted()
    told = other.routes["/v2/models/m"][2]
    other.answers(
        {**told, "inputs": [*told["inputs"], {"name": "c", "datatype": "FP64", "shape": [-1]}]}, path="/v2/models/m"
    )
    backend = load(one.address, other.address, input_example=Table({"a": np.zeros(1), "b": np.zeros(1)}))
    until(lambda: "differ in 'c'" in str(backend.place.external_api))
    assert [backend.predict(ROWS, soon()).predictions for _ in range(3)] == [[1.0, 2.0]] * 3
    assert calls(other) == 0


def test_a_call_on_a_silent_server_is_moved(pair):
    """A server that accepts calls and answers nothing is left within seconds, and its call is answered elsewhere."""
    one, _, backend = pair
    one.fall_silent()
    for _ in range(2):
        began = time.monotonic()
        assert backend.predict(ROWS, soon()).predictions == [3.0, 4.0]
        assert time.monotonic() - began < 5
    assert backend.place.external_api[0].status != "healthy"


def test_a_health_check_that_trickles_in_is_late(pair):
    """A server that sends a byte of its health check now and then is left like a silent server."""
    one, _, backend = pair
    one.trickles.add("/v2/models/m/ready")
    until(lambda: backend.place.external_api[0].status == "unhealthy", within=10)


def test_a_server_that_was_left_during_a_call_is_no_fault_of_the_version(scripted, load):
    """A call that its server may have lost does not count as a call that took too long."""
    server = scripted()
    backend = load(server.address, policy=ServingPolicy(predict_timeout=timedelta(seconds=1.5)))
    server.silent.add(INFER)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(backend.predict, ROWS, soon())
        until(lambda: calls(server))
        server.answers({"error": "loading"}, 503, path="/v2/models/m/ready")
        with pytest.raises(NotReady, match="did not answer in time"):
            running.result(10)


@pytest.mark.parametrize("scheme", ["http", "zmq"])
def test_a_short_deadline_is_no_fault_of_the_server(free_port, scheme):
    """A connection that is not made within the caller's deadline does not tell whether the server can be reached."""
    model = RemoteModel(servers=(f"{scheme}://127.0.0.1:{free_port}",), model="m")
    with socket.socket() as full, socket.socket() as first, ExitStack() as stack:
        if scheme == "http":  # a full queue of connections answers no further one
            full.bind(("127.0.0.1", free_port))
            full.listen(0)
            first.connect(("127.0.0.1", free_port))
        client = client_of(model.addresses[0], model, key=None, most_bytes=1000)
        stack.callback(client.close)
        with pytest.raises(Overdue, match="cannot be reached"):
            client.unready(Attempt(time.monotonic() + 0.1))


def test_an_ended_attempt_does_not_touch_a_later_request(scripted):
    """A connection belongs to its attempt until the answer is read; the next request uses it undisturbed."""
    server = scripted()
    model = RemoteModel(servers=(server.address,), model="m")
    with closing(client_of(model.addresses[0], model, key=None, most_bytes=1000)) as client:
        for _ in range(3):
            attempt = Attempt(soon())
            assert client.unready(attempt) is None
            attempt.end(Moved("too late"))
    assert server.connections == 1


def test_an_address_that_zmq_refuses_holds_no_socket():
    """The server cannot be reached, and the client can still be closed."""
    address = RemoteAddress(scheme="zmq", host="a b", port=1)
    model = RemoteModel(servers=("zmq://a:1",), model="m")
    with closing(client_of(address, model, key=None, most_bytes=1000)) as client, pytest.raises(Unreachable):
        client.unready(Attempt(soon()))


def test_a_grpc_server_that_notices_the_deadline_first_is_not_blamed(load):
    """The server gives up a little before the deadline of the caller; that is no fault of the version."""
    with early_server() as port:
        backend = load(f"grpc://127.0.0.1:{port}")
        with pytest.raises(DeadlineExceeded):
            backend.predict(ROWS, time.monotonic() + 0.5)
        assert backend.died is None


def test_a_passed_deadline_ends_the_call(scripted, load):
    """Neither the version nor the server is blamed for a deadline of the caller."""
    server = scripted()
    backend = load(server.address)
    server.silent.add(INFER)
    with pytest.raises(DeadlineExceeded):
        backend.predict(ROWS, time.monotonic() + 0.1)
    with pytest.raises(DeadlineExceeded):
        backend.predict(ROWS, time.monotonic() - 1)
    assert backend.died is None


def test_killing_ends_running_calls(scripted, load):
    """A call that runs when the backend is killed fails, and no thread stays."""
    server = scripted()
    backend = load(server.address)
    server.silent.add(INFER)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(backend.predict, ROWS, soon())
        until(lambda: calls(server))
        backend.kill()
        with pytest.raises(ModelFailed, match="unloaded"):
            running.result(10)
    until(lambda: not any(server.address in thread.name for thread in threading.enumerate()))
