"""A server as real processes, on real sockets."""

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import zmq
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.waiting import until


def alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def counted(server):
    """Requests that reached version 1, as any worker's metrics tell."""
    _, text = server.ask("GET", "/metrics")
    lines = [line for line in text.splitlines() if line.startswith("mendel_version_requests_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_serves_what_is_deployed(serve, hub, artifact):
    """A server that starts loads what the hub desires and answers with it, and its report says so."""
    hub.deploy(artifact(1))
    server = serve(workers=2).ready()
    assert server.version() == 1
    assert server.ask("GET", "/health") == (200, {"status": "ok"})
    report = server.until(lambda: next((r for r in hub.reports if r.ready and r.counters), None))
    (line,) = report.convergence
    assert (line.generation_desired, line.generation_serving, line.version_serving) == (1, 1, 1)
    assert len(server.workers()) == 2


def test_swaps_under_load_without_a_failed_request(serve, hub, artifact, load):
    """Promoting and rolling back under load fails no request, and no answer mixes two versions."""
    one, two = artifact(1), artifact(2)
    hub.deploy(one)
    server = serve(workers=2).ready()
    server.until(lambda: _converged(hub, 1))
    with load(server) as running:
        running.go_on(50)
        hub.deploy(one, two)
        server.until(lambda: running.versions[-20:].count(2) == 20)
        hub.deploy(one, two, production=1)
        server.until(lambda: running.versions[-20:].count(1) == 20)
    assert running.failures == []
    assert set(running.versions) == {1, 2}


def test_a_killed_worker_is_missed_by_nobody_for_long(serve, hub, artifact):
    """The other worker goes on, the killed one returns, and what was counted never goes back."""
    hub.deploy(artifact(1))
    server = serve(workers=2).ready()
    server.until(lambda: _converged(hub, 1))
    server.until(lambda: len(server.workers()) == 2)
    for _ in range(20):
        assert server.predict()[0] == 200
    before = counted(server)
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    server.until(lambda: not alive(victim))
    seen = [before]
    for _ in range(20):
        assert server.predict()[0] == 200
        seen.append(counted(server))
    server.until(lambda: len(server.workers()) == 2 and victim not in server.workers())
    assert seen == sorted(seen)
    assert seen[-1] >= before + 20


@pytest.mark.race
def test_a_stopped_worker_is_replaced(serve, hub, artifact):
    """SIGSTOP of the only worker: within seconds the server answers again, from another process."""
    hub.deploy(artifact(1))
    server = serve(workers=1).ready()
    (victim,) = server.workers()
    os.kill(victim, signal.SIGSTOP)
    server.until(lambda: not alive(victim), seconds=20)
    server.until(lambda: server.version() == 1)
    assert victim not in server.workers()
    assert "event loop has not run for" in server.log.read_text()


def test_a_busy_worker_is_left_alone(serve, hub, artifact):
    """A call that runs longer than a dead loop is tolerated keeps its worker, and is answered."""
    hub.deploy(artifact(1))
    server = serve(workers=1).ready()
    before = server.workers()
    assert server.predict(hold=7.0)[0] == 200
    assert server.workers() == before


def test_a_deployed_model_is_never_unknown_while_all_workers_are_replaced(serve, hub, artifact):
    """After a kill of every worker, callers get answers, 503 with Retry-After or a closed connection, and never 404."""
    hub.deploy(artifact(1))
    server = serve(workers=2).ready()
    server.until(lambda: len(server.workers()) == 2)
    for victim in server.workers():
        os.kill(victim, signal.SIGKILL)
    statuses = []

    def answered():
        with suppress(OSError):
            statuses.append(server.predict()[0])
        return statuses[-10:] == [200] * 10

    server.until(answered)
    assert set(statuses) <= {200, 503}


def test_a_swap_is_counted_once(serve, hub, artifact):
    """Two workers, a first load, a promotion and a restart of a worker: one swap."""
    one, two = artifact(1), artifact(2)
    hub.deploy(one)
    server = serve(workers=2).ready()
    server.until(lambda: _converged(hub, 1))
    assert _swaps(server) == []
    hub.deploy(one, two)
    server.until(lambda: _converged(hub, 2))
    assert _swaps(server) == ['mendel_swaps_total{model="credit"} 1']
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    server.until(lambda: len(server.workers()) == 2 and victim not in server.workers())
    server.until(lambda: _converged(hub, 2))
    assert _swaps(server) == ['mendel_swaps_total{model="credit"} 1']


def _converged(hub, generation):
    report = hub.reports[-1] if hub.reports else None
    return report is not None and [line.generation_serving for line in report.convergence] == [generation]


def _swaps(server):
    _, text = server.ask("GET", "/metrics")
    return [line for line in text.splitlines() if line.startswith("mendel_swaps_total")]


def test_a_killed_supervisor_leaves_no_orphans_and_its_log_is_recovered(serve, hub, artifact):
    """Workers die with it at once, and the next start sends what they had logged, to the last prediction."""
    hub.deploy(artifact(1))
    server = serve(workers=2).ready()
    hub.stop()
    answered = [server.predict()[1]["prediction_ids"][0] for _ in range(15)]
    children = server.workers()
    server.process.kill()
    server.process.wait()
    until(lambda: not any(map(alive, children)), within=3)
    hub.start()
    again = serve().ready()
    again.until(lambda: _logged(hub, answered))
    assert again.stop() == 0


def _logged(hub, prediction_ids):
    packed = b"".join(hub.segments.values())
    return all(bytes.fromhex(one.replace("-", "")) in packed for one in prediction_ids)


def test_starts_and_serves_without_the_hub(serve, hub, artifact):
    """A server that starts while the hub is away serves what it served last, and takes up what changed afterwards."""
    one, two = artifact(1), artifact(2)
    hub.deploy(one)
    assert serve().ready().stop() == 0
    hub.stop()
    server = serve().ready()
    assert server.version() == 1
    hub.deploy(one, two)
    hub.start()
    server.until(lambda: server.version() == 2)


def test_goes_on_while_the_hub_is_away(serve, hub, artifact, load):
    """A dying hub fails no request, and nothing that was logged meanwhile is lost."""
    hub.deploy(artifact(1))
    server = serve().ready()
    with load(server, threads=1) as running:
        hub.stop()
        running.go_on(100)
    assert running.failures == []
    answered = [server.predict()[1]["prediction_ids"][0] for _ in range(5)]
    hub.start()
    server.until(lambda: _logged(hub, answered))


def test_a_wrong_artefact_is_refused_and_the_old_version_serves(serve, hub, artifact):
    """Content that does not have its digest is never loaded; the report names it, and what is mended is taken up."""
    one, two = artifact(1), artifact(2)
    example = hub.artifacts / two.hex / "input_example.json"
    right = example.read_bytes()
    example.write_bytes(right + b" ")
    hub.deploy(one)
    server = serve().ready()
    hub.deploy(one, two)
    report = server.until(
        lambda: next(
            (r for r in hub.reports[-3:] if any(line.error and line.version_serving for line in r.convergence)), None
        )
    )
    (line,) = report.convergence
    assert (line.generation_desired, line.generation_serving, line.version_serving, line.failed_version) == (2, 1, 1, 2)
    assert "digest" in line.error
    assert report.ready
    assert server.version() == 1
    example.write_bytes(right)
    server.until(lambda: server.version() == 2)


def test_a_version_that_fails_its_golden_input_never_serves(serve, hub, artifact):
    """The old version serves on, also in a worker that is born afterwards and in a server that is started again."""
    one, bad = artifact(1), artifact(2, refuse=True)
    hub.deploy(one)
    server = serve().ready()
    settled = server.directory / "settled.json"
    server.until(lambda: settled.exists() and '"credit"' in settled.read_text())
    hub.deploy(one, bad)
    server.until(lambda: any(line.failed_version == 2 for r in hub.reports[-3:] for line in r.convergence))
    for victim in server.workers():
        os.kill(victim, signal.SIGKILL)
    server.until(lambda: server.version() == 1)
    assert server.stop() == 0
    assert serve().ready().version() == 1


@pytest.mark.parametrize(("workers", "slow"), [(2, 0), (1, 3)])
def test_a_version_whose_load_kills_workers_is_refused_and_the_others_serve(serve, hub, artifact, workers, slow):
    """After two deaths in its load the version is at fault, whatever else loads; the others serve on."""
    one, deadly = artifact(1), artifact(2, kill=int(signal.SIGSEGV))
    hub.deploy(one)
    hub.deploy(artifact(3, slow=slow), model="other")
    server = serve(workers=workers).ready()
    settled = server.directory / "settled.json"
    server.until(lambda: settled.exists() and all(name in settled.read_text() for name in ('"credit"', '"other"')))
    hub.deploy(one, deadly)

    def failed():
        report = hub.reports[-1]
        return [line for line in report.convergence if report.ready and line.version_at_fault and line.version_serving]

    (line,) = server.until(failed)
    assert (line.model, line.failed_version, line.version_serving) == ("credit", 2, 1)
    assert "ended the worker process: signal 11 (SIGSEGV)" in line.error
    assert server.log.read_text().count("worker_ended") <= 4
    for model in ("credit", "other"):
        assert server.ask("GET", f"/v2/models/{model}/ready")[0] == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_version_whose_calls_end_workers_is_refused_and_the_others_serve(serve, hub, artifact, workers):
    """After two deaths in its calls the version is at fault and no worker loads it; other models serve on."""
    hub.deploy(artifact(1))
    hub.deploy(artifact(3), model="other")
    server = serve(workers=workers).ready()

    def failed():
        with suppress(OSError):
            server.predict(fail=3)
        return [line for line in hub.reports[-1].convergence if line.version_at_fault]

    (line,) = server.until(failed)
    assert (line.model, line.failed_version) == ("credit", 1)
    assert line.error == "Calling version 1 of credit ended the worker process: exit code 3, 2 times."
    assert line.ended_workers
    assert server.log.read_text().count("worker_ended_in_calls") <= workers + 1
    server.until(lambda: server.ask("GET", "/v2/models/other/ready")[0] == 200)
    server.until(lambda: server.predict(fail=3)[0] == 503)
    children = server.workers()
    assert {server.predict(fail=3)[0] for _ in range(5)} == {503}
    assert server.ask("POST", "/v1/other/predict", {"instances": [{"x0": 0, "x1": 0}]})[1]["predictions"] == [3]
    assert server.workers() == children


def test_a_taken_port_ends_the_start_with_its_name(serve, hub, artifact):
    """A server whose port is taken says which, and how to go on, and leaves nothing behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(ports={"rest": [port]})
        assert server.process.wait(timeout=30) == 1
    assert f"PortInUse: The REST port {port}" in server.log.read_text()


def test_one_server_per_directory(serve, hub, artifact):
    """A second server on the same directory is refused, and the first does not notice."""
    hub.deploy(artifact(1))
    server = serve().ready()
    second = serve()
    assert second.process.wait(timeout=30) == 1
    assert "DirectoryInUse" in second.log.read_text()
    assert server.version() == 1


def test_sigterm_under_load_finishes_what_is_in_flight(serve, hub, artifact, tmp_path):
    """Whoever stops says goodbye at once; requests under way are answered, what is logged is sent, exit code 0."""
    hub.deploy(artifact(1))
    server = serve(workers=2).ready()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.predict(hold=20.0))) for _ in range(6)]
    for thread in threads:
        thread.start()
    server.until(lambda: server.active() == 6)
    server.until(lambda: [line.version_serving for line in hub.reports[-1].convergence] == [1])
    server.process.send_signal(signal.SIGTERM)
    server.until(server.closed)
    server.until(lambda: hub.reports[-1].leaving)
    (line,) = hub.reports[-1].convergence
    assert (line.version_serving, line.error) == (1, None), "the end of its workers says nothing about the version"
    (tmp_path / "free").touch()
    assert server.process.wait(timeout=20) == 0
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [200] * 6
    assert _logged(hub, [answer["prediction_ids"][0] for _, answer in answers])
    assert not hub.reports[-1].ready
    assert hub.reports[-1].leaving


def test_sigterm_loses_no_request_that_was_taken(serve, hub, artifact, load):
    """Under load, requests end with an answer until the door is closed; after that, connections are refused."""
    hub.deploy(artifact(1))
    server = serve(workers=2).ready()
    server.until(lambda: _converged(hub, 1))
    with load(server) as running:
        running.go_on(50)
        told = time.monotonic()
        assert server.stop() == 0
    assert all(issubclass(kind, ConnectionError) and began > told for began, kind, _ in running.failures)


def test_a_second_sigterm_does_not_wait(serve, hub, artifact):
    """Who insists gets the end at once, with exit code 1."""
    hub.deploy(artifact(1))
    server = serve().ready()

    def ask_slowly():
        with pytest.raises(OSError):
            server.predict(hold=20.0)

    slow = threading.Thread(target=ask_slowly)
    slow.start()
    server.until(lambda: server.active() == 1)
    server.process.send_signal(signal.SIGTERM)
    server.until(server.closed)
    assert server.stop() == 1
    slow.join()


@pytest.mark.race
def test_the_breaker_opens_on_the_aggregate(serve, hub, artifact):
    """Faults count over both workers; an open breaker refuses at every worker; after its time few probes pass."""
    hub.deploy(artifact(1))
    breaker = {"minimum_calls": 8, "open_for": "3s", "probes": 2, "failure_rate": 0.5, "window": "60s"}
    server = serve(workers=2, serving={"breaker": breaker}).ready()
    server.until(lambda: len(server.workers()) == 2)
    statuses = []

    def refused():
        """Whether both workers refuse: the last of many connections, which either may take, were refused."""
        statuses.append(server.predict(fail=1.0)[0])
        return statuses[-16:] == [503] * 16

    server.until(refused)
    assert len(statuses) < 200
    server.until(lambda: server.predict(fail=1.0)[0] != 503)
    probed = time.monotonic()
    statuses.clear()
    server.until(lambda: refused() or time.monotonic() > probed + 2.5)
    assert sum(status != 503 for status in statuses) <= 1, "the other probe"
    server.until(lambda: server.predict()[0] == 200)


def test_a_restart_epoch_replaces_the_workers_without_a_lost_request(serve, hub, artifact, load):
    """When the epoch grows, every worker is replaced, and nobody who asks meanwhile notices."""
    one = artifact(1)
    hub.deploy(one)
    server = serve(workers=2).ready()
    server.until(lambda: _converged(hub, 1))
    server.until(lambda: len(server.workers()) == 2)
    before = set(server.workers())
    with load(server) as running:
        hub.deploy(one, restart_epoch=1)
        server.until(lambda: len(server.workers()) == 2 and not before & set(server.workers()))
        running.go_on(50)
    assert running.failures == []


def test_reports_are_one_sequence_per_life(serve, hub, artifact):
    """Within an epoch sequence numbers and counters grow; a new start has a new epoch and the same server."""
    hub.deploy(artifact(1))
    first = serve().ready()
    first.until(lambda: len(hub.reports) > 3)
    first.stop()
    second = serve().ready()
    second.until(lambda: hub.reports[-1].epoch != hub.reports[0].epoch and hub.reports[-1].counters)
    assert len({report.server for report in hub.reports}) == 1
    epochs = list(dict.fromkeys(report.epoch for report in hub.reports))
    assert len(epochs) == 2
    for epoch in epochs:
        life = [report for report in hub.reports if report.epoch == epoch]
        assert [report.seq for report in life] == sorted({report.seq for report in life})
        requests = [sum(counter.requests for counter in report.counters) for report in life]
        assert requests == sorted(requests)


def test_every_door_opens_on_inherited_sockets(serve, hub, artifact):
    """Doors of gRPC and ZMQ answer beside REST, on the ports of the address; a killed ZMQ front comes back."""
    hub.deploy(artifact(1))
    server = serve(workers=2, ports={"grpc": [0], "zmq": [0]}).ready()
    ports = server.address().ports
    for _ in range(20):
        assert _grpc_health(ports["grpc"][0]) == health_pb2.HealthCheckResponse.SERVING
    assert _ask_zmq(ports["zmq"][0])["data"]["predictions"] == [1]
    front = next(pid for pid in server.workers() if b"door_proxy" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(front, signal.SIGKILL)
    server.until(lambda: not alive(front))
    assert _ask_zmq(ports["zmq"][0])["type"] == "inference_response"
    assert server.stop() == 0


def _grpc_health(port):
    """On a connection of its own, so that every worker is asked."""
    alone = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=alone) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        return health.Check(health_pb2.HealthCheckRequest(), timeout=10).status


def _ask_zmq(port):
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.set(zmq.LINGER, 0)
        client.connect(f"tcp://127.0.0.1:{port}")
        inputs = [{"x0": 0.0, "x1": 0.0}]
        message = {"type": "inference_request", "request_id": "1", "data": {"model_name": "credit", "inputs": inputs}}
        client.send_json(message)
        assert client.poll(20_000)
        return client.recv_json()


def test_health_is_answered_while_nothing_can_be_served(serve, hub, artifact):
    """A first version that cannot be loaded takes its model out, not the server; calls, status and report say why."""
    hub.deploy(artifact(1, refuse=True))
    server = serve()
    server.until(server.address)
    assert server.until(lambda: _health(server, "ok")) == (200, {"status": "ok"})
    status, answer = server.predict()
    assert status == 503
    assert "input example" in answer["error"]
    status, answer = server.ask("GET", "/v2/models/credit/ready")
    assert (status, answer["ready"]) == (503, False)
    assert "input example" in answer["error"]
    assert [one["name"] for one in server.ask("GET", "/info")[1]["not_ready"]] == ["credit"]
    (model,) = server.ask("GET", "/status")[1]["models"]
    assert (model["ready"], model["failed_version"]) == (False, 1)
    report = server.until(lambda: next((r for r in hub.reports if any(line.error for line in r.convergence)), None))
    assert server.until(lambda: next((r for r in hub.reports if r.ready), None)).revision >= report.revision


def test_a_model_whose_artefact_is_on_its_way_is_not_ready_instead_of_unknown(serve, hub, artifact):
    """Until the artefact is here, its model answers 503 and an unknown one 404; then it serves."""
    digest = artifact(1)
    place, away = hub.artifacts / digest.hex, hub.artifacts / "away"
    place.rename(away)
    hub.deploy(digest)
    server = serve()
    server.until(server.address)
    server.until(lambda: _health(server, "ok") or _health(server, "not loaded yet"))
    assert server.predict()[0] == 503
    assert server.ask("POST", "/v1/nobody/predict", {"instances": [{"sleep": 0.0, "fail": 0.0}]})[0] == 404
    away.rename(place)
    assert server.until(server.version) == 1


def test_a_server_that_stops_reports_no_model_as_not_served(serve, hub, artifact):
    """What a server reports while its workers go is no evidence against the version they served."""
    generation = hub.deploy(artifact(1))
    server = serve(workers=2).ready()
    server.until(lambda: any(line.generation_serving == generation for r in hub.reports for line in r.convergence))
    served = next(place for place, r in enumerate(hub.reports) if r.ready)
    assert server.stop() == 0
    assert not hub.reports[-1].ready
    assert {line.generation_serving for r in hub.reports[served:] for line in r.convergence} == {generation}


def test_a_server_that_was_told_nothing_is_not_ready(serve, hub):
    """Before the hub was heard for the first time, health is answered, and truthfully."""
    hub.stop()
    server = serve()
    server.until(server.address)
    assert server.until(lambda: _health(server, "none yet"))[0] == 503
    hub.start()
    server.until(lambda: _health(server, "ok"))


def _health(server, part):
    try:
        status, health = server.ask("GET", "/health", timeout=2)
    except OSError:
        return None
    return (status, health) if part in str(health) else None
