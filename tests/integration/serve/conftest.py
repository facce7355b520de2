"""A hub over a directory, models that obey, and servers as real processes."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from mendel.adapters.processes.server_address import ServerAddress
from mendel.serving import write_artifact
from mendel.values import (
    Deployment,
    DesiredModel,
    DesiredState,
    ModelName,
    Route,
    ServedVersion,
    ServerReport,
    VersionUuid,
    from_json,
    to_json,
)
from mendel.values.directory_trees import pack_tree, tree_digest
from support.waiting import until

HERE = Path(__file__).parent
KEY = "mk_reader"
ACTIVE = "mlserver_active_requests{"
PROGRAM = """
import json, sys
from datetime import timedelta
from pathlib import Path
from mendel.app.server.launch import ServeSettings, door_settings, serve
from mendel.errors import MendelError
from mendel.predictions import SpoolPolicy
from mendel.serving import ServingPolicy
from mendel.values import from_mapping
told = json.loads(sys.argv[1])
told["directory"] = Path(told["directory"])
told["serving"] = from_mapping(ServingPolicy, told["serving"], at="serving")
told["report_every"] = told["upload_every"] = timedelta(milliseconds=200)
told["spool"] = SpoolPolicy(seal_after=timedelta(milliseconds=200))
told["doors"] = door_settings({name: tuple(ports) for name, ports in told.pop("ports").items()})
try:
    sys.exit(serve(ServeSettings(**told)))
except MendelError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Hub:
    """The three endpoints that servers call, over a directory; may be stopped and started again on its port."""

    def __init__(self, directory):
        self.artifacts = directory / "artifacts"
        self.artifacts.mkdir(parents=True)
        self.state = DesiredState(revision=0, key_hashes={hashlib.sha256(KEY.encode()).hexdigest(): ("read",)})
        self.segments, self.reports = {}, []
        self._port = 0
        self._server = self._thread = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    def start(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(self, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=0)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self):
        if self._thread is not None:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join()
            self._thread = None

    async def __call__(self, scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, answer = await self._answer(scope, dict(scope["headers"]), body)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, scope, headers, body):
        match scope["path"].removeprefix("/api/v1/").split("/"):
            case ["desired"]:
                query = dict(part.split("=") for part in scope["query_string"].decode().split("&"))
                end = time.monotonic() + float(query["wait"])
                while self.state.revision <= int(query["after"]):
                    if time.monotonic() > end or self._server.should_exit:
                        return 304, b""
                    await asyncio.sleep(0.02)
                return 200, to_json(self.state)
            case ["artifacts", digest]:
                packed = io.BytesIO()
                pack_tree(self.artifacts / digest.removeprefix("sha256:"), packed)
                return 200, packed.getvalue()
            case ["segments", spool, seq]:
                assert headers[b"x-checksum"].decode() == f"sha256:{hashlib.sha256(body).hexdigest()}"
                known = self.segments.setdefault((spool, int(seq)), body)
                return (204, b"") if known == body else (409, b"other content")
            case ["servers", server, "reports"]:
                report = from_json(body, ServerReport)
                assert report.server == server
                self.reports.append(report)
                return 204, b""
        return 404, b""

    def deploy(self, *versions, model="credit", production=None, restart_epoch=None, locks=()):
        """
        Make a new generation of *model* with the versions numbered 1, 2, ...; the last in production.

        Args:
            locks: The digests of their locks, for versions that carry their code.
        """
        numbered = dict(enumerate(versions, start=1))
        old = next((m.deployment for m in self.state.models if m.deployment.model == model), None)
        generation = 1 if old is None else old.generation + 1
        deployment = Deployment(
            model=ModelName(model),
            generation=generation,
            routes=(Route(version=production or max(numbered), share=1.0),),
            keep=tuple(number for number in numbered if number != (production or max(numbered))),
            restart_epoch=(old.restart_epoch if old else 0) if restart_epoch is None else restart_epoch,
        )
        served = tuple(
            ServedVersion(
                number=number,
                uuid=VersionUuid(f"m-{number:032x}"),
                artifact_digest=digest,
                flavor="sklearn",
                signature=None,
                task="classification",
                registered_at=datetime(2026, 1, 1, tzinfo=UTC),
                lock_digest=locks[number - 1] if locks else None,
                carries_code=bool(locks),
                locked=bool(locks),
            )
            for number, digest in numbered.items()
        )
        others = tuple(m for m in self.state.models if m.deployment.model != model)
        desired = DesiredModel(deployment=deployment, versions=served)
        self.state = replace(self.state, revision=self.state.revision + 1, models=(*others, desired))
        return generation


@pytest.fixture
def new_hub(tmp_path):
    """Starts hubs by their names."""
    started = []

    def start(name):
        started.append(Hub(tmp_path / name))
        started[-1].start()
        return started[-1]

    yield start
    for hub in started:
        hub.stop()


@pytest.fixture
def hub(new_hub):
    """A running hub."""
    return new_hub("hub")


@pytest.fixture
def artifact(hub, monkeypatch):
    """Puts a model that answers *answer* into the hub and gives its digest."""
    monkeypatch.syspath_prepend(HERE)
    behaviours = importlib.import_module("behaviours")

    def make(answer, **how):
        draft = hub.artifacts / "draft"
        example = np.zeros((2, 2))  # an array: no worker needs pandas for its requests
        model = behaviours.Obedient(answer=answer, **how).fit(example, [0, 1])
        write_artifact(model, draft, input_example=example)
        digest = tree_digest(draft)
        draft.rename(hub.artifacts / digest.hex)
        return digest

    return make


@dataclass
class Server:
    """A server process and its REST door."""

    directory: Path
    process: subprocess.Popen
    log: Path
    failures: list = field(default_factory=list)
    answers: list = field(default_factory=list)

    def address(self):
        address = ServerAddress.read(self.directory)
        return address if address is not None and address.pid == self.process.pid else None

    @property
    def port(self):
        return self.address().ports["rest"][0]

    def ask(self, method, path, body=None, timeout=10.0, headers=None):
        """Status and decoded body of one request on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            headers = headers or ({} if body else {"X-API-Key": KEY})
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] in b"{[" else text.decode()

    def predict(self, hold=0.0, fail=0.0, timeout=30.0):
        return self.ask("POST", "/v1/credit/predict", {"instances": [{"x0": hold, "x1": fail}]}, timeout)

    def version(self):
        """The version that answers now, or None."""
        try:
            status, answer = self.predict()
        except OSError:
            return None
        return int(answer["metadata"]["model_version"]) if status == 200 else None

    def until(self, seen, seconds=60.0):
        """Wait until *seen* gives something true; give that."""

        def look():
            assert self.process.poll() is None, f"the server ended: {self.log.read_text()[-4000:]}"
            return seen()

        return until(look, within=seconds, told=lambda: self.log.read_text()[-6000:])

    def ready(self):
        self.until(self.address)
        self.until(lambda: self.version() is not None)
        return self

    def active(self):
        """How many requests are in flight, over all workers."""
        _, text = self.ask("GET", "/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(ACTIVE))

    def closed(self):
        """Whether nobody takes connections at its REST port any more."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def workers(self):
        """Process ids of its children."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self):
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


class Load:
    """Threads that ask without pause; every answer and every failure is kept."""

    def __init__(self, server, threads=3):
        self._port = server.port
        self._stop = threading.Event()
        self.versions, self.failures = [], []
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, more):
        """Wait until there were *more* answers than now."""
        wanted = len(self.versions) + more
        until(lambda: len(self.versions) >= wanted)

    def _run(self):
        body = json.dumps({"instances": [{"x0": 0.0, "x1": 0.0}]})
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
                    connection.request("POST", "/v1/credit/predict", body=body)
                    answer = connection.getresponse()
                    told = json.loads(answer.read())
                if answer.status == 200:
                    self.versions.append(int(told["metadata"]["model_version"]))
                else:
                    self.failures.append((began, answer.status, told))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((began, type(error), error))
                if isinstance(error, ConnectionRefusedError):
                    return
            time.sleep(0.002)


@pytest.fixture
def serve(request, new_hub, tmp_path):
    """Starts servers of the hub; all of their processes are gone after the test."""
    running = []

    def start(*, name="server", hub_url=None, workers=1, serving=None, ports=None, **settings):
        told = {
            "directory": str(tmp_path / name),
            "hub": hub_url or request.getfixturevalue("hub").url,
            "key": "k",
            "ports": {"rest": [0], **(ports or {})},
            "serving": {"workers": workers, "drain_timeout": "5s", **(serving or {})},
            **settings,
        }
        log = tmp_path / f"{name}-{len(running)}.log"
        environment = {**os.environ, "PYTHONPATH": str(HERE), "FREE": str(tmp_path / "free")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps(told)], env=environment, stderr=output, stdout=output
            )
        server = Server(directory=tmp_path / name, process=process, log=log)
        running.append(server)
        return server

    yield start
    for server in running:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def load():
    """Load on a server, as a context manager."""
    return Load


MODELS = '''
import time
from pathlib import Path

import numpy as np


class Sum:
    """Adds up a row, and its bias."""

    def __init__(self, bias=10.0):
        self.bias = bias

    def predict(self, X):
        return X.sum(axis=1) + self.bias


class Filed(Sum):
    def __init__(self, model_dir, bias_file):
        assert Path(model_dir).is_absolute()
        super().__init__(float(Path(bias_file).read_text()))


class Proba:
    classes_ = np.array(["no", "yes"])

    def predict(self, X):
        return self.classes_[(X.sum(axis=1) > 0).astype(int)]

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-X.sum(axis=1)))
        return np.column_stack([1 - p, p])


class Held(Sum):
    def predict(self, X):
        end = time.monotonic() + X[:, 0].max()
        Path(__file__).with_name("held").touch()
        while time.monotonic() < end and not Path(__file__).with_name("free").exists():
            time.sleep(0.005)
        return super().predict(X)


class First:
    def predict(self, X):
        return X[:, 0]


class Broken:
    def __init__(self):
        raise RuntimeError("the weights are gone")
'''
PROJECT = """
default_classifier: sum
server: {host: 127.0.0.1}
classifiers:
  sum: {predictor: {module: models, class_name: Sum}}
  proba: {predictor: {module: models.py, class_name: Proba}}
  filed:
    predictor: {module: models, class_name: Filed, init_kwargs: {model_dir: weights, bias_file: bias.txt}}
  held: {predictor: {module: models, class_name: Held}}
"""


@pytest.fixture
def project(tmp_path):
    """A project of several plain predictors, in no repository; one of its files has the name of a standard module."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "json.py").write_text("raise RuntimeError('imported instead of the standard library')")
    (directory / "models.py").write_text(MODELS)
    (directory / "mlserver.yaml").write_text(PROJECT)
    yield directory
    directory.chmod(0o755)


@pytest.fixture
def git(project):
    """Runs git in the project, as nobody in particular."""
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(*arguments):
        done = subprocess.run(
            ["git", *arguments], cwd=project, env={**os.environ, **who}, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return run


@dataclass
class Ended:
    """How a command ended, and what it said."""

    code: int
    text: str


@dataclass
class Alone(Server):
    """A server of the command line without a hub; ``key`` is sent with every request."""

    key: str | None = None

    def ask(self, method, path, body=None, timeout=10.0, headers=None):
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            sent = {**({"X-API-Key": self.key} if self.key else {}), **(headers or {})}
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=sent)
            answer = connection.getresponse()
            text = answer.read()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, json.loads(text) if text[:1] in b"{[" else text.decode()

    def ready(self, model="sum"):
        self.until(self.address)
        self.until(self._is_ready)
        return self

    def _is_ready(self):
        try:
            return self.ask("GET", "/health", timeout=2)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def ended(self):
        """Wait until it ended by itself."""
        code = self.process.wait(timeout=30)
        return Ended(code, " ".join(self.log.read_text().split()))


@pytest.fixture
def alone(project, tmp_path):
    """
    Starts `mendel serve` with one worker in the project, on a free port of REST; with *doors* on one of each door.

    Other keyword arguments are variables of its environment; None takes one away. All processes end with the test.
    """
    running = []

    def start(*arguments, cwd=None, port=0, doors=False, **environment):
        log = tmp_path / f"alone-{len(running)}.log"
        others = dict.fromkeys(("MENDEL_SERVING__GRPC_PORT", "MENDEL_SERVING__ZMQ_PORT"), "0" if doors else "off")
        ports = {**others, "MENDEL_SERVING__REST_PORTS": None if port is None else str(port)}
        told = {**os.environ, "MENDEL_SERVING__WORKERS": "1", **ports, **environment}
        data = tmp_path / "data"
        program = Path(sys.executable).with_name("mendel")
        command = [program, "serve", "--directory", str(data), *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd or project,
                env={name: value for name, value in told.items() if value is not None},
                stderr=output,
                stdout=output,
            )
        server = Alone(directory=data / "server", process=process, log=log)
        running.append(server)
        return server

    yield start
    for server in running:
        server.process.kill()
        server.process.wait()
