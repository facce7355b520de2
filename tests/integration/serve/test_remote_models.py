"""A model that other servers run: two real servers behind a third, stopped in turn, one killed, none left, one back."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from contextlib import closing, suppress

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from mendel.serving import write_artifact
from mendel.values.directory_trees import tree_digest
from support.ports import free_ports
from support.remote_peers import write_remote
from support.waiting import until

MODEL = LinearRegression().fit(np.eye(2), np.array([2.0, 3.0]))
PATIENCE_S = 20.0


class Retrying:
    """Threads that ask with numbers of their own, and again after a 503; ``gap`` is the longest wait for an answer."""

    def __init__(self, port, threads=4):
        self._port, self._stop = port, threading.Event()
        self.wrong, self.answers, self.gap = [], [0] * threads, 0.0
        self._threads = [threading.Thread(target=self._run, args=(place,)) for place in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, more=20):
        """Wait until every thread got *more* answers than now."""
        wanted = [count + more for count in self.answers]
        until(lambda: all(a >= w for a, w in zip(self.answers, wanted, strict=True)), within=PATIENCE_S)

    def _run(self, place):
        last = time.monotonic()
        while not self._stop.is_set():
            value = float(self.answers[place])
            body = json.dumps({"instances": [{"x0": value, "x1": float(place)}]})
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
                connection.request("POST", "/v1/credit/predict", body=body)
                answer = connection.getresponse()
                told = json.loads(answer.read())
            if answer.status == 200:
                expected = MODEL.predict([[value, float(place)]])[0]
                if told["predictions"] != [pytest.approx(expected)]:
                    self.wrong.append((value, place, told))
                self.gap = max(self.gap, time.monotonic() - last)
                self.answers[place] += 1
                last = time.monotonic()
            elif answer.status != 503:
                self.wrong.append((value, place, told))
            time.sleep(0.002)


def store(hub, write):
    """Write an artefact into the hub; gives its digest."""
    draft = hub.artifacts / "draft"
    write(draft)
    digest = tree_digest(draft)
    draft.rename(hub.artifacts / digest.hex)
    return digest


def processes(server):
    return [server.process.pid, *server.workers()]


def send(pids, number):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def external(front):
    (model,) = front.ask("GET", "/status")[1]["models"]
    return {
        server["address"]: server["status"]
        for version in model["versions"]
        for server in version["place"]["external_api"]
    }


@pytest.mark.slow(25)
def test_clients_that_retry_see_right_answers_only(serve, new_hub, request):
    """Whatever one server does, the other answers; when none is left, the model says so, and serves again later."""
    behind, before = new_hub("behind"), new_hub("before")
    rest, grpc = free_ports(2)
    servers = (f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{grpc}")
    behind.deploy(store(behind, lambda tree: write_artifact(MODEL, tree, input_example=np.eye(2))))
    before.deploy(store(before, lambda tree: write_remote(tree, *servers, model="credit", input_example=np.eye(2))))
    front = serve(name="front", hub_url=before.url)
    front.until(front.address)
    front.until(lambda: front.predict()[0] == 503)

    one = serve(name="one", hub_url=behind.url, ports={"rest": [rest]}).ready()
    two = serve(name="two", hub_url=behind.url, ports={"grpc": [grpc]}).ready()
    front.ready()
    front.until(lambda: external(front) == dict.fromkeys(servers, "healthy"))
    with Retrying(front.port) as clients:
        clients.go_on()
        for stopped in (two, one):
            clients.gap = 0.0
            pids = processes(stopped)
            send(pids, signal.SIGSTOP)
            clients.go_on()
            request.node.user_properties.append(("longest wait for a stopped server", clients.gap))
            send(pids, signal.SIGCONT)
            front.until(lambda: external(front) == dict.fromkeys(servers, "healthy"))
        clients.gap = 0.0
        send(processes(one), signal.SIGKILL)
        one.process.wait()
        clients.go_on()
        request.node.user_properties.append(("longest wait for a killed server", clients.gap))
        assert external(front) == {servers[0]: "unhealthy", servers[1]: "healthy"}
        assert front.ask("GET", "/status")[1]["readiness"]["state"] == "degraded"
        assert front.ask("GET", "/health") == (200, {"status": "ok"})
        assert clients.wrong == []

    pids = processes(two)
    send(pids, signal.SIGSTOP)
    front.until(lambda: front.ask("GET", "/v2/models/credit/ready")[0] == 503)
    status, told = front.predict()
    assert (status, "No server of the remote model" in told["error"]) == (503, True)
    assert set(external(front).values()) == {"unhealthy"}
    until(lambda: {one.status for one in before.reports[-1].external_api} == {"unhealthy"})
    assert before.reports[-1].convergence[0].version_at_fault is False
    send(pids, signal.SIGCONT)
    front.until(lambda: front.version() == 1)
    (version,) = front.ask("GET", "/status")[1]["models"][0]["versions"]
    assert version["breaker"] == "closed"
