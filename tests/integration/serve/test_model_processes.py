"""Models that run in processes of their own, and models whose calls hang in threads, in servers of real processes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from support.waiting import until


def model_processes(server):
    """The children of the server that run models."""
    return [pid for pid in server.workers() if b"model_program.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def placed(server):
    """Where the server says that the model runs."""
    (model,) = server.ask("GET", "/status")[1]["models"]
    (information,) = server.ask("GET", "/info")[1]["models"]
    assert information["backend"] == "process"
    return model["versions"][0]["place"]


def alive(pid):
    """Whether the process is there and not yet reaped."""
    with suppress(OSError):
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_workers_share_a_model_process_that_outlives_them(serve, hub, artifact):
    """Both workers use one process; it stays when a worker is killed, comes back when killed, ends with the server."""
    hub.deploy(artifact(1))
    server = serve(workers=2, serving={"backend": "process"}).ready()
    server.until(lambda: len(server.workers()) == 3)
    server.until(lambda: hub.reports[-1].convergence[0].generation_serving == 1)  # both workers have loaded it
    (model,) = model_processes(server)
    assert placed(server)["pid"] == model
    (answering, *_) = [pid for pid in server.workers() if pid != model]
    os.kill(answering, signal.SIGKILL)
    server.until(lambda: answering not in server.workers() and len(server.workers()) == 3)
    assert model_processes(server) == [model]
    server.until(lambda: server.version() == 1)
    status, answer = server.predict(fail=2.0)  # the model kills its process
    assert status == 503, answer
    server.until(lambda: server.version() == 1)
    (second,) = model_processes(server)
    assert second != model
    server.until(lambda: (placed(server)["pid"], placed(server)["restarts"]) == (second, 1))
    assert "SIGKILL" in server.log.read_text()
    children = server.workers()
    server.process.kill()
    server.process.wait()
    until(lambda: not any(map(alive, children)), within=5)


def test_two_versions_swap_in_processes_without_a_failed_request(serve, hub, artifact, load):
    """The new version's process starts beside the old one, which ends when its requests are answered."""
    one = artifact(1)
    hub.deploy(one)
    server = serve(serving={"backend": "process"}).ready()
    (model,) = model_processes(server)
    with load(server) as running:
        hub.deploy(artifact(2))
        server.until(lambda: server.predict()[1].get("predictions") == [2] and model not in model_processes(server))
        running.go_on(20)
    assert running.failures == []
    assert server.predict()[1]["predictions"] == [2]


def test_a_worker_with_a_hanging_call_is_replaced(serve, hub, artifact):
    """The hanging call fails after predict_timeout; the model answers 503 until a new worker serves it."""
    hub.deploy(artifact(1))
    server = serve(serving={"predict_timeout": "1s"}).ready()
    (worker,) = server.workers()
    status, answer = server.predict(hold=60.0)
    assert (status, "took longer than 1 s" in answer["error"]) == (500, True)
    assert server.predict()[0] == 503
    server.until(lambda: worker not in server.workers())
    server.until(lambda: server.version() == 1)
    assert "a call of a model hangs" in server.log.read_text()


def test_idle_models_in_processes_make_room(serve, hub, artifact):
    """The budget has room for one process, which two workers share; the idle model's process ends for the other."""
    hub.deploy(artifact(1))
    budget = {"memory_budget_bytes": 50 << 20, "evict_unused_for": "1s"}
    server = serve(workers=2, serving={"backend": "process", **budget}).ready()
    server.until(lambda: server.version() == 1)
    (first,) = model_processes(server)

    def answered(model):
        row = {"instances": [{"x0": 0.0, "x1": 0.0}]}
        return server.ask("POST", f"/v1/{model}/predict", row)[1].get("predictions")

    hub.deploy(artifact(2), model="other")
    server.until(lambda: answered("other") == [2] and first not in model_processes(server))
    assert not alive(first)
    assert server.ask("GET", "/health")[0] == 200
    models = {model["model"]: model for model in server.ask("GET", "/status")[1]["models"]}
    assert "memory_budget_bytes" in models["credit"]["error"]
    server.until(lambda: server.predict()[1].get("predictions") == [1] and len(model_processes(server)) == 1)
