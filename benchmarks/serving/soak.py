"""
Keep a server of Mendel busy with well-behaved and badly behaved callers, and watch its memory and descriptors.

    .venv/bin/python benchmarks/serving/soak.py [--minutes 10] [--doors fast]

Beside callers who ask over REST and gRPC, other callers send requests and never read the answers, close their half of a
connection behind a request, reset a connection in the middle of a request, or connect and say nothing. Every five
seconds the memory (proportional set size) and the descriptors of all processes of the server are sampled. Bounds: both
grow by at most 2 % in the last eight of ten minutes (for other lengths, after the first fifth), and every well-behaved
request is answered rightly.

Then workers are killed one after the other under load, with callers who try again: every prediction whose id was
acknowledged must be in the prediction log. At last a server gets SIGTERM under load: every request that was sent before
must be answered. Then `mendel up` serves two versions that are promoted in turns, 200 times: no request may fail.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
from mendel_servers import MendelSettings, add_version, register, routes, serving
from process_tree import descendants, free_port, memory_mb, open_files, running
from servers import Route, Server, await_ready
from training import fit
from witness import client
from workload import Question, questions

import mendel
from mendel.predictions import id_texts
from mendel.predictions.segments import decode_frames, whole_frames

SAMPLE_EVERY_S = 5.0
GROWTH = 0.02
SETTLED_SHARE = 0.2
PAUSE_S = 0.01
KILLS = 4
BETWEEN_KILLS_S = 4.0
SWAPS = 200
SWAP_S = 10.0
WORKER = "mendel.app.server.worker"
RESET = struct.pack("ii", 1, 0)
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How an HTTP/2 connection begins: the preface, and a frame of settings that changes none."""


@dataclass(slots=True)
class Callers:
    """Threads that call one function again and again; ``counts`` has how often each ended rightly or wrongly."""

    stop: threading.Event = field(default_factory=threading.Event)
    counts: dict[str, list[int]] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def add(self, name: str, turns: Callable[[], Iterator[bool]]) -> None:
        """Run *turns* in a thread: it yields once for each turn, whether the turn went as it should."""
        thread = threading.Thread(target=self._run, args=(name, turns), daemon=True)
        self._threads.append(thread)
        self.counts.setdefault(name, [0, 0])

    def _run(self, name: str, turns: Callable[[], Iterator[bool]]) -> None:
        while not self.stop.is_set():
            try:
                for right in turns():
                    self.counts[name][not right] += 1
                    if self.stop.wait(PAUSE_S):
                        return
            except (OSError, http.client.HTTPException, grpc.RpcError, ValueError) as error:
                self.counts[name][1] += 1
                self.last[name] = f"{error!r:.200}"

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in self._threads:
                thread.join(timeout=30)


def well_behaved(route: Route, asked: list[Question]) -> Callable[[], Iterator[bool]]:
    """Ask over one connection, and compare the answers."""

    def turns() -> Iterator[bool]:
        with client(route) as ask:
            while True:
                for question in asked:
                    yield ask(question) == list(question.classes)

    return turns


def unread(route: Route, request: bytes) -> Callable[[], Iterator[bool]]:
    """Send requests without reading until the server takes no more, wait, and go away."""

    def turns() -> Iterator[bool]:
        with connected(route) as peer:
            peer.setblocking(False)
            for _ in range(2000):
                with suppress(BlockingIOError):
                    peer.send(request)
                yield True

    return turns


def half_closed(route: Route, request: bytes) -> Callable[[], Iterator[bool]]:
    """Send a request, close the sending half, and read to the end; over REST the answer must come."""

    def turns() -> Iterator[bool]:
        with connected(route) as peer:
            peer.sendall(request)
            peer.shutdown(socket.SHUT_WR)
            got = b""
            while part := peer.recv(65536):
                got += part
            yield route.door != "REST" or b" 200 " in got[:20]

    return turns


def reset(route: Route, request: bytes) -> Callable[[], Iterator[bool]]:
    """Send a part of a request, and reset the connection."""
    rng = random.Random(0)

    def turns() -> Iterator[bool]:
        with connected(route) as peer:
            peer.sendall(request[: rng.randrange(1, len(request))])
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        yield True

    return turns


def silent(route: Route, _request: bytes) -> Callable[[], Iterator[bool]]:
    """Connect, say nothing for three seconds, and go away."""

    def turns() -> Iterator[bool]:
        with connected(route):
            for _ in range(300):
                yield True

    return turns


@contextmanager
def connected(route: Route) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", route.port), timeout=20) as peer:
        yield peer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--doors", choices=("fast", "standard"), default="fast")
    chosen = options.parse_args()
    asked = questions(fit("logistic"), rows=1, count=8)
    with tempfile.TemporaryDirectory(prefix="mendel-soak-", ignore_cleanup_errors=True) as place:
        room = Path(place)
        (room / "registry").mkdir()
        version = register(fit("logistic"), room / "registry")
        settings = MendelSettings(doors=chosen.doors)
        with serving(version, "logistic", settings, room / "soaked") as server:
            _soak(server, asked, chosen.minutes * 60)
        two = MendelSettings(doors=chosen.doors, workers=2)
        with serving(version, "logistic", two, room / "killed") as server:
            _kill(server, asked, room / "killed")
        with serving(version, "logistic", two, room / "ended") as server:
            _end(server, asked)
        _swap(asked, room / "swapped", chosen.doors)


def _soak(server: Server, asked: list[Question], seconds: float) -> None:
    callers = Callers()
    for route in server.routes[:2]:
        callers.add(f"{route.door}, well-behaved", well_behaved(route, asked))
        request = HTTP2_PREFACE if route.door == "gRPC" else route.http_request(asked[0])
        for bad in (unread, half_closed, reset, silent):
            callers.add(f"{route.door}, {bad.__name__}", bad(route, request))
    samples: list[tuple[float, float, int]] = []
    print(f"{'s':>6}{'memory MB':>11}{'descriptors':>13}")
    with callers.running():
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            samples.append((now, memory_mb(server.process.pid), open_files(server.process.pid)))
            print(f"{now:6.0f}{samples[-1][1]:11.1f}{samples[-1][2]:13}", flush=True)
            time.sleep(SAMPLE_EVERY_S)
    for name, (right, wrong) in callers.counts.items():
        print(f"{name}: {right} as expected, {wrong} not {callers.last.get(name, '')}")
    settled = [sample for sample in samples if sample[0] >= seconds * SETTLED_SHARE]
    for place, name in ((1, "memory"), (2, "descriptors")):
        part = max(len(settled) // 8, 1)
        before, after = (statistics.mean(one[place] for one in some) for some in (settled[:part], settled[-part:]))
        grown = after / before - 1
        print(f"{_mark(grown <= GROWTH)}{name} grew by {grown:.2%} (bound: {GROWTH:.0%}): {before:.1f} to {after:.1f}")
    wrong = sum(bad for name, (_, bad) in callers.counts.items() if "well-behaved" in name)
    print(f"{_mark(wrong == 0)}{wrong} well-behaved requests without the right answer")


def _kill(server: Server, asked: list[Question], room: Path) -> None:
    route = next(one for one in server.routes if one.door == "REST" and one.form == "plain")
    acknowledged: set[str] = set()
    callers = Callers()
    for _ in range(4):
        callers.add("REST, trying again", acknowledging(route, asked[0], acknowledged))
    rng = random.Random(0)
    with callers.running():
        for _ in range(KILLS):
            time.sleep(BETWEEN_KILLS_S)
            workers = [pid for pid in descendants(server.process.pid) if _is_worker(pid)]
            os.kill(rng.choice(workers), signal.SIGKILL)
        time.sleep(BETWEEN_KILLS_S)
    right, wrong = callers.counts["REST, trying again"]
    lost = acknowledged - logged(room)
    print(
        f"{KILLS} workers killed: {right} requests answered, {wrong} tried again, {len(acknowledged)} acknowledged ids"
    )
    print(f"{_mark(not lost and bool(acknowledged))}{len(lost)} acknowledged predictions are not in the log")


def acknowledging(route: Route, question: Question, acknowledged: set[str]) -> Callable[[], Iterator[bool]]:
    """Ask over one connection, and keep the ids of the predictions in the answers."""
    headers = {"content-type": "application/json", **route.headers}

    def turns() -> Iterator[bool]:
        connection = http.client.HTTPConnection("127.0.0.1", route.port, timeout=10)
        try:
            while True:
                connection.request("POST", route.path, body=question.plain, headers=headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == http.client.OK:
                    acknowledged.update(json.loads(text)["prediction_ids"] or ())
                yield answer.status == http.client.OK
        finally:
            connection.close()

    return turns


def logged(room: Path) -> set[str]:
    """The ids of all predictions in the log of the server below *room*."""
    found: set[str] = set()
    for path in (room / ".mendel" / "server" / "spool").rglob("*"):
        if path.suffix in {".open", ".segment"}:
            blocks, _ = decode_frames(whole_frames(path.read_bytes()).frames)
            for block in blocks:
                found.update(id_texts(block.prediction_ids))
    return found


def _end(server: Server, asked: list[Question]) -> None:
    """Send SIGTERM while callers ask; count requests that were sent before it and got no answer."""
    unanswered, answered, after = [0], [0], [0]
    terminated: list[float] = []

    def ask(route: Route) -> None:
        request = route.http_request(asked[0])
        with suppress(ConnectionRefusedError), connected(route) as peer:
            while True:
                sent, answer = time.monotonic(), b""
                with suppress(OSError):
                    peer.sendall(request)
                    answer = peer.recv(65536)
                if b" 200 " not in answer[:20]:
                    late = bool(terminated) and sent > terminated[0]  # the server was closing the connection
                    (after if late else unanswered)[0] += 1
                    return
                answered[0] += 1

    threads = [threading.Thread(target=ask, args=(server.routes[0],), daemon=True) for _ in range(32)]
    for thread in threads:
        thread.start()
    time.sleep(2.0)
    terminated.append(time.monotonic())
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(timeout=40)
    code = server.process.wait(timeout=40)
    print(f"SIGTERM under load: {answered[0]} answered, {after[0]} sent later to closing connections, exit code {code}")
    print(f"{_mark(unanswered[0] == 0 and code == 0)}{unanswered[0]} requests that were sent before got no answer")


def _swap(asked: list[Question], room: Path, doors: str) -> None:
    """Promote two versions in turns under load, and wait each time until an answer comes from the promoted version."""
    room.mkdir()
    ports = {name: free_port() for name in ("HUB__PORT", "SERVING__REST_PORTS", "SERVING__GRPC_PORT")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MENDEL_")}
    environment |= {f"MENDEL_{name}": str(port) for name, port in ports.items()}
    environment |= {"MENDEL_SERVING__DOORS": doors, "MENDEL_SERVING__ZMQ_PORT": "off"}
    with mendel.connect(directory=str(room / ".mendel")) as registry:
        names = [add_version(registry, fit("logistic")) for _ in range(2)]
        registry.promote(names[0], reason="benchmark")
    rest, grpc_port = ports["SERVING__REST_PORTS"], ports["SERVING__GRPC_PORT"]
    rest_route, grpc_route, plain, *_ = (replace(one, headers={}) for one in routes("logistic", rest, grpc_port, 0, ""))
    callers, took, log = Callers(), [], room / "log"
    callers.add("REST", well_behaved(rest_route, asked))
    callers.add("gRPC", well_behaved(grpc_route, asked))
    with running([sys.executable, "-m", "mendel.app.cli", "up"], log=log, cwd=room, environment=environment) as process:
        await_ready(process, rest, "/v2/models/logistic/ready", log)
        with mendel.connect(directory=str(room / ".mendel")) as hub, callers.running():
            for number in range(SWAPS):
                began = time.monotonic()
                hub.promote(names[(number + 1) % 2], reason=f"swap {number}")
                wanted = str((number + 1) % 2 + 1)
                while _answering(plain, asked[0]) != wanted and time.monotonic() < began + SWAP_S:
                    time.sleep(0.005)
                took.append(time.monotonic() - began)
    failed = sum(wrong for _, wrong in callers.counts.values())
    answered = sum(right for right, _ in callers.counts.values())
    seen = f"median {statistics.median(took):.2f} s, at most {max(took):.2f} s"
    print(f"{SWAPS} swaps under load, seen by a caller after: {seen}")
    print(f"{_mark(failed == 0)}{failed} of {answered + failed} requests failed {callers.last or ''}")


def _answering(route: Route, question: Question) -> str:
    """The version that answers."""
    connection = http.client.HTTPConnection("127.0.0.1", route.port, timeout=10)
    try:
        connection.request("POST", route.path, body=question.plain, headers={"content-type": "application/json"})
        return str(json.loads(connection.getresponse().read())["metadata"]["model_version"])
    finally:
        connection.close()


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return WORKER in Path(f"/proc/{pid}/cmdline").read_text()
    return False


def _mark(met: bool) -> str:
    return f"{'met' if met else 'MISSED':7}"


if __name__ == "__main__":
    main()
