"""
Show where the time of one request goes: the functions of the event loop and of the model's thread, by their own time.

    .venv/bin/python benchmarks/serving/request_profile.py [--doors fast] [--in-flight 500] > profiles/after.txt

One worker serves logistic regression, one row of 20 floats, with everything on. ``CPU`` is measured without the
profiler: the CPU time of the worker per request. The profiler (cProfile, one for each thread) makes every call of a
function slower, so its times add up to more; their shares are what counts. A function that releases the interpreter
also contains the time until the thread has it again. Times are microseconds per request.
"""

from __future__ import annotations

import argparse
import marshal
import os
import platform
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from load_generators import require_programs
from measuring import Case, generator
from mendel_servers import MendelSettings, register, serving
from process_tree import cpu_seconds, descendants
from servers import Route, Server
from training import fit
from workload import Question, questions

SECONDS = 3.0
TOP = 25
WAIT_S = 20.0
WORKER = "mendel.app.server.worker"
HOOK = """
import cProfile, marshal, os, signal, sys, threading
from itertools import count

if "mendel.app.server.worker" in sys.orig_argv:
    profiles, numbers = {}, count()

    def begin(*_):
        profile = profiles.setdefault(threading.current_thread().name, cProfile.Profile())
        profile.enable()

    def name(code):
        return code if isinstance(code, str) else f"{code.co_filename}:{code.co_firstlineno} {code.co_name}"

    def write(*_):
        told = {
            thread: [(name(one.code), one.callcount, one.inlinetime, one.totaltime) for one in profile.getstats()]
            for thread, profile in list(profiles.items())
        }
        path = os.path.join(os.environ["PROFILES_OF_WORKERS"], str(next(numbers)))
        with open(path + ".new", "wb") as file:
            marshal.dump(told, file)
        os.rename(path + ".new", path)

    threading.setprofile(begin)
    signal.signal(signal.SIGUSR2, write)
    begin()
"""
Functions = dict[str, tuple[int, float, float]]
"""For each function the number of calls, its own seconds, and its seconds with those of the functions that it calls."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--doors", choices=("fast", "standard"), default="fast")
    options.add_argument("--in-flight", type=int, default=500)
    chosen = options.parse_args()
    require_programs()
    with tempfile.TemporaryDirectory(prefix="mendel-profile-", ignore_cleanup_errors=True) as place:
        room = Path(place)
        (room / "registry").mkdir()
        version = register(fit("logistic"), room / "registry")
        settings = MendelSettings(doors=chosen.doors)
        asked = questions(fit("logistic"), rows=1, count=8)
        print(f"{chosen.doors} doors, {chosen.in_flight} in flight, Python {platform.python_version()}")
        with serving(version, "logistic", settings, room / "plain") as server:
            for route in server.routes[:2]:
                print(_cpu(server, route, asked, chosen.in_flight))
        (room / "hook").mkdir()
        (room / "hook" / "sitecustomize.py").write_text(HOOK)
        (room / "profiles").mkdir()
        told = {"PYTHONPATH": str(room / "hook"), "PROFILES_OF_WORKERS": str(room / "profiles")}
        with serving(version, "logistic", replace(settings, other=told), room / "profiled") as server:
            for route in server.routes[:2]:
                for line in _profiled(server, route, asked, chosen.in_flight, room / "profiles"):
                    print(line)


def _cpu(server: Server, route: Route, asked: list[Question], in_flight: int) -> str:
    worker = _worker(server)
    with generator(route, asked[:1], Case(what="", connections=in_flight), SECONDS) as generate:
        generate()
        before = cpu_seconds(worker)
        load = generate()
    micros = (cpu_seconds(worker) - before) / load.requests * 1e6
    return f"{route.door}: CPU {micros:.0f} us per request, {load.rate:,.0f} requests/s, P95 {load.p95_ms:.1f} ms"


def _profiled(server: Server, route: Route, asked: list[Question], in_flight: int, place: Path) -> Iterator[str]:
    with generator(route, asked[:1], Case(what="", connections=in_flight), SECONDS) as generate:
        before = _snapshot(server, place)
        load = generate()
        after = _snapshot(server, place)
    for thread, functions in sorted(after.items()):
        spent = _difference(functions, before.get(thread, {}))
        busy = sum(own for name, (_, own, _) in spent.items() if not _waits(name))
        if busy / load.requests < 1e-6:
            continue
        yield ""
        yield f"{route.door}, thread {thread}: {busy / load.requests * 1e6:.0f} us per request under the profiler"
        yield f"{'own us':>9}{'with calls us':>15}{'calls':>8}  function"
        busiest = sorted(spent.items(), key=lambda item: -item[1][1])
        for name, (calls, own, total) in [one for one in busiest if not _waits(one[0])][:TOP]:
            figures = f"{own / load.requests * 1e6:9.2f}{total / load.requests * 1e6:15.2f}"
            yield f"{figures}{calls / load.requests:8.2f}  {_short(name)}"


def _worker(server: Server) -> int:
    for pid in descendants(server.process.pid):
        if WORKER in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise RuntimeError("the server has no worker")


def _snapshot(server: Server, place: Path) -> Mapping[str, Functions]:
    path = place / str(len(list(place.iterdir())))
    os.kill(_worker(server), signal.SIGUSR2)
    end = time.monotonic() + WAIT_S
    while not path.exists():
        if time.monotonic() > end:
            raise RuntimeError("the worker wrote no profile")
        time.sleep(0.05)
    threads = marshal.loads(path.read_bytes())
    return {thread: {name: (calls, own, total) for name, calls, own, total in rows} for thread, rows in threads.items()}


def _difference(after: Functions, before: Functions) -> Functions:
    nothing = (0, 0.0, 0.0)
    changes = {
        name: tuple(a - b for a, b in zip(now, before.get(name, nothing), strict=True)) for name, now in after.items()
    }
    return {name: change for name, change in changes.items() if change[0]}


def _waits(name: str) -> bool:
    """Whether the function only waits (the event loop itself, locks and queues of threads), or is the profiler's."""
    return any(
        part in name
        for part in ("run_until_complete", "_thread.lock", "SimpleQueue", "acquire", "_lsprof", "sitecustomize")
    )


def _short(name: str) -> str:
    """The name of a function with the end of its file's path."""
    for mark in ("/src/", "/site-packages/", "/lib/python3."):
        if mark in name:
            return name.rpartition(mark)[2]
    return name


if __name__ == "__main__":
    main()
