"""Which server of a remote model gets a call, and what happens when one does not answer."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mendel.errors import DeadlineExceeded, ModelFailed, NotReady
from mendel.serving import frame_of
from mendel.values import Table
from support.scripted_server import answer
from support.waiting import until

ROWS = frame_of(Table({"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}), None)
INFER = "/v2/models/m/infer"


def soon():
    return time.monotonic() + 20


def calls(server):
    return Counter(path for path, _, _ in server.seen)[INFER]


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
    began = time.monotonic()
    assert [backend.predict(ROWS, soon()).predictions for _ in range(2)] == [[3.0, 4.0]] * 2
    assert time.monotonic() - began < 9
    assert backend.place.external_api[0].status != "healthy"


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
