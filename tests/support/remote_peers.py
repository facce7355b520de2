"""Servers that remote models name: a real kernel with real doors, on the loop of another thread."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from mendel.projects import Project
from mendel.serving import Kernel, LoadBackend, RemoteModel, ServingPolicy, single_version_model, write_artifact
from mendel.transports.door_table import DOORS
from mendel.values import DesiredState, Digest, ModelName, Signature
from support.doors import open_door
from support.served_models import new_kernel, served_version

SCHEMES = {"rest": "http", "grpc": "grpc", "zmq": "zmq"}
POLICY = ServingPolicy(drain_timeout=timedelta(seconds=1))


class RemotePeer:
    """One server; models are added while it runs. ``keys`` are the hashes of API keys and their scopes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kernel: Kernel, ports: dict[str, int]) -> None:
        self.kernel = kernel
        self.keys: dict[str, tuple[str, ...]] = {}
        self._loop = loop
        self._ports = ports
        self._trees: dict[str, Path] = {}
        self._models: dict[str, Any] = {}

    def address(self, door: str = "rest") -> str:
        return f"{SCHEMES[door]}://127.0.0.1:{self._ports[door]}"

    def serve(self, model: str, tree: Path, digest: Digest, *, signature: Signature | None = None) -> None:
        """Serve the artefact *tree* under the name *model*, beside the models served before."""
        self._trees[digest] = tree
        self._models[model] = single_version_model(ModelName(model), served_version(1, digest, signature))
        state = DesiredState(revision=len(self._models), models=tuple(self._models.values()), key_hashes=self.keys)
        self.run(self.kernel.apply(state, self._trees.__getitem__))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run *work* on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@contextmanager
def remote_peer(
    *doors: str,
    project: Project | None = None,
    load: LoadBackend | None = None,
    policy: ServingPolicy = POLICY,
    fast: bool = False,
) -> Iterator[RemotePeer]:
    """Open a server with the *doors*, by default REST alone; ``fast`` opens their fast forms."""
    opened: list[RemotePeer] = []
    running, ends = threading.Event(), []
    given = {} if load is None else {"load_backend": load}

    async def serve() -> None:
        end = asyncio.Event()
        ends.append((asyncio.get_running_loop(), end))
        with tempfile.TemporaryDirectory(prefix="mendel-peer-") as directory:
            async with AsyncExitStack() as stack:
                kernel = await stack.enter_async_context(new_kernel(None, policy, project=project, **given))
                chosen = [door for door in DOORS if door.name in (doors or ("rest",))]
                place = Path(directory)
                ports = {door.name: await open_door(door, stack, stack, kernel, place, fast=fast) for door in chosen}
                opened.append(RemotePeer(asyncio.get_running_loop(), kernel, ports))
                running.set()
                await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="remote-peer")
    thread.start()
    try:
        assert running.wait(20)
        yield opened[0]
    finally:
        loop, end = ends[0]
        loop.call_soon_threadsafe(end.set)
        thread.join(20)
        assert not thread.is_alive()


def write_remote(tree: Path, *addresses: str, model: str, **more: Any) -> Digest:
    """Write the artefact of a remote model; what is given *more* goes to the model or to ``write_artifact``."""
    facts = {key: more.pop(key) for key in ("version", "key_variable", "classes") if key in more}
    return write_artifact(RemoteModel(servers=addresses, model=model, **facts), tree, **more)
