"""Cases that h2load cannot measure: ZMQ, and a grpc.aio client against its own floor."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from load_generators import Load
from measuring import Case, Result, judged
from process_tree import free_port, running
from report import Pair
from servers import Route, Server
from workload import Question

HERE = Path(__file__).parent
START_S = 20.0
ROUNDS = 2


def over_zmq(server: Server, route: Route, question: Question, case: Case, *, seconds: float) -> Result:
    """Ask over ZMQ; the client compares every answer with the model's own."""
    told = {
        "port": route.port,
        "key": route.headers["api_key"],
        "model": route.model,
        "rows": question.rows.tolist(),
        "classes": list(question.classes),
        "in_flight": case.in_flight,
        "seconds": seconds,
    }
    return judged(server, route, (), case, lambda: _load(printed_by("zmq_client.py", json.dumps(told))), tool="pyzmq")


def grpc_aio_floor(
    server: Server, route: Route, questions: list[Question], case: Case, *, seconds: float, room: Path
) -> Pair:
    """
    Ask *server* and a bare grpc.aio server in turns with the same grpc.aio client and the same messages.

    The bare server answers with the bytes that *server* answered. The pair has the runs with the median P95.
    """
    message, metadata = route.message(questions[0]), _metadata(route)
    with grpc.insecure_channel(f"127.0.0.1:{route.port}") as channel:
        answer = channel.unary_unary(route.path)(message, metadata=metadata, timeout=10)
    (room / "answer").write_bytes(answer)
    port = free_port()
    command = [sys.executable, str(HERE / "grpc_floor.py"), "server", str(port), str(room / "answer")]
    told = {"path": route.path, "message": message.hex(), "metadata": metadata, "in_flight": case.in_flight}

    def ask(at: int) -> Load:
        return _load(printed_by("grpc_floor.py", "client", json.dumps({**told, "port": at, "seconds": seconds})))

    own, bare = [], []
    with running(command, log=room / "log", cwd=room):
        for _ in range(ROUNDS):
            bare.append(ask(port))
            own.append(judged(server, route, questions, case, lambda: ask(route.port), tool="grpc.aio"))
    floor = sorted(bare, key=lambda load: load.p95_ms)[len(bare) // 2]
    of = sorted(own, key=lambda one: one.load.p95_ms)[len(own) // 2]
    to = replace(of, server="bare grpc.aio server", product="grpc.aio", load=floor, invalid="", memory_mb=0.0)
    return Pair(what=f"grpc.aio client, {case.in_flight} in flight", of=of, to=to)


def printed_by(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of this directory, and read the JSON that it prints."""
    done = subprocess.run([sys.executable, str(HERE / script), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"complaint": done.stderr.strip()[-300:]}
    return dict(json.loads(done.stdout))


def _load(figures: dict[str, Any]) -> Load:
    if "complaint" in figures:
        return Load(requests=0, seconds=0.0, p50_ms=0.0, p95_ms=0.0, p99_ms=0.0, complaints=(figures["complaint"],))
    bad = {name: figures.pop(name, 0) for name in ("wrong", "unanswered")}
    return Load(**figures, complaints=tuple(f"{count} answers {name}" for name, count in bad.items() if count))


def _metadata(route: Route) -> list[tuple[str, str]]:
    return [(name, value) for name, value in route.headers.items() if name != "grpc-timeout"]
