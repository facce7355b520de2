"""Remote models of scripted servers."""

from __future__ import annotations

import pytest

from mendel.adapters.remote import RemoteLoads
from mendel.serving import ServingPolicy
from support.ports import free_port
from support.remote_peers import write_remote
from support.scripted_server import ScriptedServer, ScriptedZmqServer

__all__ = ["free_port"]


@pytest.fixture
def scripted():
    """Starts scripted servers, and stops them at the end."""
    servers: list[ScriptedServer] = []

    def start() -> ScriptedServer:
        servers.append(ScriptedServer())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def scripted_zmq():
    """A scripted server of ZMQ messages."""
    server = ScriptedZmqServer()
    yield server
    server.stop()


@pytest.fixture
def load(tmp_path):
    """Loads a remote model of the servers with the given addresses; all backends are killed in the end."""
    loaded = []

    def load_(*addresses, policy=None, environment=None, model="m", **more):
        tree = tmp_path / f"remote-{len(loaded)}"
        write_remote(tree, *addresses, model=model, **more)
        loads = RemoteLoads(policy or ServingPolicy(), environment=environment or {})
        loaded.append(loads(tree, digest=None, project=None))
        return loaded[-1]

    yield load_
    for backend in loaded:
        backend.kill()
