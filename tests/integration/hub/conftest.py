"""A hub as people reach it: in their own process, and over a socket."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from mendel import connect
from mendel.app.directory import DataDirectory
from mendel.client.client import Client
from mendel.registry import Registration, Snapshot
from mendel.serving import write_artifact
from mendel.values import ModelName, VersionRef, Window
from support.threshold import Threshold
from support.waiting import until

WINDOW_END = timedelta(seconds=1)


@contextmanager
def running_hub(directory, *options, **environment):
    """`mendel hub` in a process of its own on a free port; gives its process when it answers."""
    command = [sys.executable, "-m", "mendel.app.cli", "hub", "--port", "0", "-C", str(directory), *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MENDEL_")}
    process = subprocess.Popen(command, env=clean | environment, stderr=subprocess.PIPE, text=True)
    try:
        _await_ready(process, DataDirectory(Path(directory)))
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _await_ready(process, data):
    def ready():
        assert process.poll() is None, f"the hub ended with {process.returncode}: {process.stderr.read()}"
        running = data.hub()
        with suppress(httpx.TransportError):
            return running is not None and httpx.get(f"{running.url}/ready", timeout=1).is_success
        return False

    until(ready, within=60, every=0.05)


@dataclass
class Shared(httpx.BaseTransport):
    """Another's transport, which stays open when this client of it closes."""

    transport: httpx.BaseTransport

    def handle_request(self, request):
        return self.transport.handle_request(request)


@dataclass
class Hub:
    """A client of a hub, with short ways to fill it; every test takes a model name of its own."""

    kind: str
    directory: Path
    client: Client
    trees: Path
    _names: itertools.count = field(default_factory=lambda: itertools.count(1))

    @property
    def http(self):
        return self.client._http

    @property
    def address(self):
        return DataDirectory(self.directory).hub()

    def new_model(self):
        return ModelName(f"model-{next(self._names)}")

    def with_key(self, secret):
        """The same hub through another key."""
        transport = Shared(self.http._transport.open()) if self.kind == "in process" else httpx.HTTPTransport()
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        return Client(httpx.Client(transport=transport, base_url=self.http.base_url, headers=headers))

    def register(self, model, *, tree="linear", **changes):
        wish = {"model": model, "flavor": "sklearn", "task": "classification"} | changes
        return self.client.register(Registration(**wish), self.trees / tree)

    def ready(self, model, **changes):
        """A version that may be promoted."""
        ref = VersionRef.parse(self.register(model, **changes).model_id)
        self.client.approve(ref, policy=True, bias=True)
        self.client.change_stage(ref, "sandbox")
        return ref

    def promoted(self, model, count=1, **changes):
        refs = [self.ready(model, **changes) for _ in range(count)]
        for ref in refs:
            self.client.promote(ref, reason=f"{ref} is next")
        return refs

    def snapshot(self, ref, **figures):
        window = Window.before(datetime.now(UTC), timedelta(seconds=2))
        return Snapshot(ref=ref, window=window, source="test", **figures)

    def events(self, subject, *types):
        return [e.event for e in self.client.events(subject=str(subject)).entries if e.event.type in types]


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """Artefact directories of models: ``linear``, ``wider`` (another signature), ``referenced``, ``bare`` (no rows)."""
    root, chance = tmp_path_factory.mktemp("trees"), np.random.default_rng(0)
    features = chance.normal(size=(200, 2))
    outcome = (features.sum(axis=1) > 0).astype(int)
    model = Threshold().fit(features, outcome)
    write_artifact(model, root / "linear", input_example=features[:5])
    write_artifact(model, root / "referenced", training=features)
    write_artifact(model, root / "bare")
    wider = np.column_stack([features, features[:, 0]])
    write_artifact(Threshold().fit(wider, outcome), root / "wider", input_example=wider[:5])
    return root


@pytest.fixture(scope="session")
def in_process(tmp_path_factory, trees):
    directory = tmp_path_factory.mktemp("in-process") / ".mendel"
    with connect(directory=str(directory)) as client:
        yield Hub("in process", directory, client, trees)


@pytest.fixture(scope="module")
def over_http(tmp_path_factory, trees):
    """Ends with its module, because a hub looks at every model that was ever made in it once a second."""
    directory = tmp_path_factory.mktemp("over-http") / ".mendel"
    with running_hub(directory), connect(directory=str(directory)) as client:
        yield Hub("over http", directory, client, trees)


@pytest.fixture(params=["in_process", "over_http"])
def hub(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(hub):
    return hub.client


@pytest.fixture
def model(hub):
    return hub.new_model()


@pytest.fixture(scope="session")
def run_hub():
    return running_hub
