"""Installations as people have them: the command line in subprocesses, real sockets, real signals."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mendel import connect
from mendel.app.demo.door_clients import CLIENTS, DoorClients
from mendel.app.directory import DataDirectory
from mendel.registry import Registration
from mendel.serving import write_artifact
from mendel.values import ModelName
from support.ports import free_ports
from support.threshold import Threshold
from support.waiting import until

HOST = "127.0.0.1"
MENDEL = (sys.executable, "-m", "mendel.app.cli")
MODEL = "credit"
REOPEN_S = 0.05
"""What a caller waits before it opens a door again that did not answer."""
QUICK = {
    "MENDEL_SERVING__WORKERS": "1",
    "MENDEL_SERVING__REPORT_EVERY": "500ms",
    "MENDEL_SERVING__DRAIN_TIMEOUT": "5s",
    "MENDEL_SPOOL__SEAL_AFTER": "500ms",
    "MENDEL_HUB__SHIP_EVERY": "2s",
    "MENDEL_HUB__ANCHOR_EVERY": "2s",
}


@dataclass(kw_only=True)
class Installation:
    """One data directory on free ports, and the command line over it."""

    root: Path
    settings: dict = field(default_factory=dict)
    running: list = field(default_factory=list)

    def __post_init__(self):
        ports = dict(zip(("hub", "rest", "grpc", "zmq"), free_ports(4), strict=True))
        self.ports = ports
        self.settings = {
            **QUICK,
            "MENDEL_HUB__PORT": str(ports["hub"]),
            "MENDEL_SERVING__REST_PORTS": str(ports["rest"]),
            "MENDEL_SERVING__GRPC_PORT": str(ports["grpc"]),
            "MENDEL_SERVING__ZMQ_PORT": str(ports["zmq"]),
            **self.settings,
        }

    @property
    def directory(self):
        return self.root / ".mendel"

    @property
    def data(self):
        return DataDirectory(self.directory)

    @property
    def log(self):
        return self.root / "log"

    def environment(self, **more):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MENDEL_", "PYTEST_"))}
        return {**inherited, "MENDEL_DIRECTORY": str(self.directory), **self.settings, **more}

    def run(self, *arguments, timeout=60, **more):
        """One command to its end."""
        return subprocess.run(
            [*MENDEL, *arguments],
            cwd=self.root,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def ok(self, *arguments):
        """What one command printed; it succeeded."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"mendel {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def refused(self, *arguments, timeout=60, **more):
        """What one command wrote to standard error: it ended with 1 and without a traceback."""
        done = self.run(*arguments, timeout=timeout, **more)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert "error: " in done.stderr
        return done.stderr

    def start(self, *arguments):
        """A command that runs for long, in a session of its own; what it says goes to the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*MENDEL, *arguments],
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def stop(self, process, patience=60):
        """SIGTERM, and the exit code."""
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=patience)

    def close(self):
        for process in self.running:
            if process.poll() is None:
                self.stop(process)
        self.running.clear()

    @contextmanager
    def up(self):
        """`mendel up`, ready."""
        process = self.start("up")
        try:
            self.until(lambda: self.data.hub() is not None and bool(self.data.server_ports()), process=process)
            yield process
        finally:
            if process.poll() is None:
                assert self.stop(process) == 0, self.log.read_text()

    def beside(self):
        """A second installation over the same directory, with other ports."""
        return Installation(root=self.root)

    def client(self):
        """Python's face of the hub, or of the directory where none runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("MENDEL_")]:
                patch.delenv(name)
            return connect(directory=str(self.directory))

    @staticmethod
    def now():
        """The wall clock."""
        return datetime.now(UTC)

    def over_http(self):
        """A client of the hub on its port, whether it answers or not."""
        return connect(f"http://{HOST}:{self.ports['hub']}", key=self.data.secret())

    def until(self, reached, seconds=60.0, process=None):
        """Wait until *reached* gives something true; give that."""

        def look():
            assert process is None or process.poll() is None, self.log_tail()
            return reached()

        return until(look, within=seconds, every=0.05, told=self.log_tail)

    def log_tail(self):
        """The end of what its processes said."""
        return self.log.read_text()[-4000:] if self.log.exists() else ""

    def doors(self):
        """A client of every door, as a context manager."""
        ports = {name: (port,) for name, port in self.ports.items()}
        return DoorClients(HOST, ports, MODEL)

    def door(self, place):
        """A client of one door: REST, gRPC or ZMQ."""
        client = CLIENTS[place]
        return client(HOST, self.ports[client.name], MODEL)

    def serves(self, version):
        """Wait until *version* is what answers."""
        with self.doors() as doors:
            for door in doors.all:
                self.until(lambda door=door: door.predict(self.row(0)).version == version)

    @staticmethod
    def row(number):
        """One request."""
        return {"age": 20.0 + number % 50, "income": 1000.0 + number % 1000}

    @staticmethod
    def write_version(tree, seed):
        """The artefact of a model that takes an age and an income."""
        frame = pd.DataFrame([Installation.row(number * 7) for number in range(200)])
        model = Threshold(tuple(frame.columns), steepness=float(seed))
        model.fit(frame.to_numpy(), np.array(frame["age"] > 40, dtype=int))
        write_artifact(model, tree, training=frame)

    @staticmethod
    def register(client, tree, **how):
        """Register the artefact in *tree*, approve it, and put it into sandbox; its number."""
        asked = Registration(model=ModelName(MODEL), flavor="sklearn", task="classification")
        number = client.register(asked, tree).version
        client.approve(f"{MODEL}@{number}", policy=True, bias=True)
        client.change_stage(f"{MODEL}@{number}", "sandbox", **how)
        return number

    @staticmethod
    def locked(path):
        """Whether somebody holds the lock file *path*."""
        if not path.exists():
            return False
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


class Load:
    """
    Threads that ask every door without pause. What was acknowledged is kept with its id, all else with its words.

    A door is opened again after anything but an answer, as an application would.
    """

    def __init__(self, installation, *, pause=0.01):
        self._installation = installation
        self._pause = pause
        self._stop = threading.Event()
        self._mutex = threading.Lock()
        self.acknowledged, self.versions, self.failures, self.unlogged = [], Counter(), [], 0
        self._threads = [threading.Thread(target=self._run, args=(place,)) for place in range(len(CLIENTS))]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def take(self, rng, most):
        """Up to *most* of the ids acknowledged so far."""
        with self._mutex:
            return rng.sample(self.acknowledged, min(most, len(self.acknowledged)))

    def go_on(self, more, within=90.0):
        """Wait until *more* was acknowledged than now: time, as users feel it."""
        wanted = len(self.acknowledged) + more
        until(lambda: len(self.acknowledged) >= wanted, within=within, told=self._installation.log_tail)

    def _run(self, place):
        number = place
        while not self._stop.is_set():
            with closing(self._installation.door(place)) as door:
                if door.name == "zmq":
                    door._socket.rcvtimeo = 3000  # a message that a dying front took is never answered
                while not self._stop.is_set():
                    number += len(CLIENTS)
                    if not self._ask(door, number):
                        break
                    time.sleep(self._pause)
            self._stop.wait(REOPEN_S)

    def _ask(self, door, number):
        answer = door.predict(Installation.row(number))
        with self._mutex:
            if not answer.ok:
                self.failures.append((door.name, answer.detail))
                return False
            self.versions[door.name, answer.version] += 1
            if answer.prediction_id is None:
                self.unlogged += 1
            else:
                self.acknowledged.append(answer.prediction_id)
        return True


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """The artefacts of two models that are as good as each other."""
    home = tmp_path_factory.mktemp("models")
    for seed in (1, 2):
        Installation.write_version(home / str(seed), seed)
    return home


@pytest.fixture(scope="module")
def install():
    """Makes installations; none of their processes outlives the module."""
    with ExitStack() as closing:

        def make(**settings):
            root = Path(tempfile.mkdtemp(prefix="mendel-acceptance-"))
            closing.callback(shutil.rmtree, root, ignore_errors=True)
            installation = Installation(root=root, settings=settings)
            closing.callback(installation.close)
            return installation

        yield make


@pytest.fixture(scope="module")
def two_versions(install, trees):
    """An installation with two fit versions, the first of them in production; nothing runs yet."""
    installation = install()
    with installation.client() as client:
        for seed in (1, 2):
            installation.register(client, trees / str(seed))
        client.promote(f"{MODEL}@1", reason="the first")
    return installation


@pytest.fixture
def rng(request):
    """Chance, the same in every run of one test."""
    return random.Random(request.node.name)


@pytest.fixture
def load():
    """Load on an installation, as a context manager."""
    return Load
