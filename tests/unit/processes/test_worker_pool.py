"""A number of real processes kept alive."""

import asyncio
import os
import random
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from mendel.adapters.processes.child_processes import Child, Command, worker_environment
from mendel.adapters.processes.worker_messages import Status, to_line
from mendel.adapters.processes.worker_pool import Worker, WorkerPool, workers_to_open

ACCEPTING = to_line(Status(accepting=True, ready=True))
CHILD = f"""
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
channel = socket.socket(fileno=int(sys.argv[sys.argv.index("--channel") + 1]))
BEFORE
channel.sendall({ACCEPTING!r})
while channel.recv(4096):
    pass
"""


class Watched:
    """A crew and what it told."""

    def __init__(self, size=2, before="", drain=5.0):
        self.lost, self.launched = [], []
        self.size = size
        self.fewest = size
        self.program = Command(
            arguments=(sys.executable, "-c", CHILD.replace("BEFORE", before)), environment=os.environ
        )
        self.crew = WorkerPool(
            "worker",
            size,
            launch=self._launch,
            heard=self._heard,
            lost=lambda worker, _code: self.lost.append(worker.slot),
            drain_timeout=timedelta(seconds=drain),
            rng=random.Random(1),
        )

    async def _launch(self, slot):
        self.launched.append(slot)
        return await Child.start(self.program)

    def _heard(self):
        self.fewest = min(self.fewest, self.accepting)

    @property
    def accepting(self):
        return sum(worker.status.accepting for worker in self.crew.workers)

    async def until(self, seen):
        async with asyncio.timeout(10):
            while not seen():  # noqa: ASYNC110 - looks at processes
                await asyncio.sleep(0.01)


@pytest.fixture
async def watched():
    """Starts crews; they are gone after the test."""
    running = []

    async def start(**how):
        watched = Watched(**how)
        running.append((watched, asyncio.create_task(watched.crew.run())))
        await watched.until(lambda: watched.accepting == watched.size)
        watched.fewest = watched.size
        return watched

    yield start
    for watched, task in running:
        watched.crew.kill()
        await task
        assert watched.crew.workers == ()


async def test_who_dies_is_followed_on_the_same_slot(watched):
    """A killed worker is missed, and its slot is handed over."""
    crew = await watched()
    victim = crew.crew.workers[1]
    os.kill(victim.child.pid, signal.SIGKILL)
    await crew.until(lambda: crew.lost and crew.accepting == 2)
    assert crew.lost == [victim.slot]
    assert crew.launched == [0, 1, victim.slot]
    assert victim.child.pid not in {worker.child.pid for worker in crew.crew.workers}


async def test_drained_workers_are_seen_out(watched):
    """After draining nobody is left and nobody is started again."""
    crew = await watched()
    launched = len(crew.launched)
    await crew.crew.drain()
    await crew.until(lambda: not crew.crew.workers)
    assert len(crew.launched) == launched


async def test_a_worker_that_ends_while_the_server_stops_is_not_started_again(watched):
    """A signal to the whole process group ends workers before the server drains them; its sockets are closed then."""
    crew = await watched()
    crew.crew.keep_no_longer()
    victim, other = crew.crew.workers
    os.kill(victim.child.pid, signal.SIGTERM)
    await crew.until(lambda: victim not in crew.crew.workers)
    await crew.crew.drain()
    await crew.until(lambda: not crew.crew.workers)
    assert len(crew.launched) == 2
    assert other.slot in crew.lost


async def test_who_does_not_drain_in_time_is_killed(watched):
    """A worker deaf to SIGTERM does not hold the server up."""
    crew = await watched(size=1, before="signal.signal(signal.SIGTERM, signal.SIG_IGN)", drain=-1.8)
    await crew.crew.drain()
    await crew.until(lambda: not crew.crew.workers)


async def test_renewal_replaces_everyone_and_never_serves_with_fewer(watched):
    """Each successor serves before its predecessor goes, on a slot of its own."""
    crew = await watched()
    before = {worker.child.pid for worker in crew.crew.workers}
    crew.crew.renew(1)
    await crew.until(lambda: len(crew.lost) == 2 and crew.accepting == 2)
    assert not before & {worker.child.pid for worker in crew.crew.workers}
    assert crew.fewest == 2


async def test_one_worker_is_replaced_without_the_others(watched):
    """The named worker ends after its successor serves; the other worker stays."""
    crew = await watched()
    stuck, other = crew.crew.workers
    crew.crew.replace(stuck)
    await crew.until(lambda: crew.lost == [stuck.slot] and crew.accepting == 2)
    assert other.child.pid in {worker.child.pid for worker in crew.crew.workers}
    assert crew.fewest == 2


async def test_a_child_dies_with_its_parent(tmp_path):
    """A child whose parent is killed is killed too, whatever it is doing."""
    pid_file = tmp_path / "pid"
    child = (
        "import os, sys, time, pathlib; from mendel.adapters.processes.child_processes import die_with_parent;"
        f"die_with_parent(os.getppid()); pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    )
    async with asyncio.timeout(20):
        while not (pid_file.exists() and pid_file.read_text()):  # noqa: ASYNC110 - looks at a file
            await asyncio.sleep(0.02)
        parent.kill()
        await parent.wait()
        while _alive(int(pid_file.read_text())):  # noqa: ASYNC110 - looks at a process
            await asyncio.sleep(0.02)


def test_numerical_libraries_share_the_cores():
    """Each of two workers on eight cores uses four threads, unless the user said otherwise."""
    shared = worker_environment({"OMP_NUM_THREADS": "1", "PATH": "/bin"}, workers=2, cores=8)
    assert shared == {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
        "PATH": "/bin",
    }


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def new_worker(slot=0, born=0.0, heard=None, *, accepting=False, ready=False):
    status = Status(accepting=accepting, ready=ready)
    return Worker(slot=slot, vintage=0, child=None, born=born, status=status, heard=heard)


@pytest.mark.parametrize(
    ("states", "closed", "held", "opens"),
    [
        ("", 60, 0, ()),
        ("silent silent", 60, 0, ()),
        ("silent loading", 1.9, 0, ()),
        ("silent loading", 2, 0, (1,)),
        ("loading loading", 2, 0, (0,)),
        ("loading ready", 0, 0, (1,)),
        ("ready ready", 0, 0, (0, 1)),
        ("early ready", 0, 29.9, ()),
        ("early ready", 0, 30, (1,)),
        ("serving ready", 0, 0, (1,)),
        ("serving loading", 0, 0, ()),
    ],
)
def test_doors_open_when_a_worker_is_ready_and_one_early_when_nobody_answers(states, closed, held, opens):
    """Ready workers open at once, but not beside a worker that opened early and still answers 503."""
    kinds = {
        "silent": {},
        "loading": {"heard": 1.0},
        "early": {"heard": 1.0, "accepting": True},
        "ready": {"heard": 1.0, "ready": True},
        "serving": {"heard": 1.0, "ready": True, "accepting": True},
    }
    workers = [new_worker(slot, **kinds[state]) for slot, state in enumerate(states.split())]
    chosen = workers_to_open(workers, closed=timedelta(seconds=closed), held=timedelta(seconds=held))
    assert tuple(worker.slot for worker in chosen) == opens


@pytest.mark.parametrize(
    ("heard", "now", "silent"), [(None, 119.9, None), (None, 120, 120), (7.0, 11.9, None), (7.0, 12.0, 5)]
)
def test_silence_of_five_seconds_is_a_dead_loop_and_a_start_may_take_longer(heard, now, silent):
    """A worker that has sent a status sends one every second; before the first it has two minutes."""
    expected = None if silent is None else timedelta(seconds=silent)
    assert new_worker(heard=heard).silent_since(now) == expected
