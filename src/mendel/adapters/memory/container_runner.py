"""A container runner in memory: a container is a thread that runs the program of its image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mendel.errors import AlreadyExists, ImageNotFound, ProgramFailed
from mendel.images import RUN_LABEL, Container, ContainerRunner, RunRequest, container_environment
from mendel.images.container_readiness import is_ready, require_free
from mendel.images.image_archives import archive_references

_LOOK_SECONDS = 0.02


@dataclass(kw_only=True)
class MemoryProcess:
    """
    The container as its program sees it.

    Attributes:
        environment: The environment variables of the container.
        print: Writes one line of the container's output.
        stopped: Set when the container must end.
    """

    environment: Mapping[str, str]
    print: Callable[[str], None]
    stopped: threading.Event


Program = Callable[[MemoryProcess], None]
"""The function that a container runs instead of a server; it returns when ``stopped`` is set, or earlier by itself."""


@dataclass(kw_only=True)
class _Running:
    container: Container
    labels: Mapping[str, str]
    stopped: threading.Event = field(default_factory=threading.Event)
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def write(self, line: str) -> None:
        with self.changed:
            self.lines.append(line)
            self.changed.notify_all()

    def run(self, program: Program, environment: Mapping[str, str]) -> None:
        try:
            program(MemoryProcess(environment=environment, print=self.write, stopped=self.stopped))
        finally:
            with self.changed:
                self.changed.notify_all()

    def end(self) -> None:
        self.stopped.set()
        if self.thread is not None:
            self.thread.join()


class MemoryContainerRunner(ContainerRunner):
    """
    Implements :class:`mendel.images.ContainerRunner`: a container is a thread that runs a program.

    Ports are real ports of this machine.

    Args:
        programs: The program of each image that an archive may contain, by reference.
    """

    name = "memory"

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self._programs = programs
        self._images: set[str] = set()
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._made = 0

    def load(self, archive: Path) -> None:
        self._images |= set(archive_references(archive))

    def create_foreign(self, name: str) -> None:
        """Create a container that Mendel did not start and that does not run."""
        made = Container(id=f"foreign-{name}", name=name, url="", image="")
        self._running[name] = _Running(container=made, labels={})

    def remove_foreign(self, name: str) -> None:
        """Remove a container of :meth:`create_foreign`; raises KeyError if the container is gone."""
        del self._running[name]

    def run(self, request: RunRequest) -> Container:
        if request.image not in self._images or request.image not in self._programs:
            raise ImageNotFound(
                f"The container runner has no image {request.image}.",
                remedy="Build and load the image with: mendel build --load",
            )
        with self._lock:
            self._make_room(request.name)
            require_free(request.address, request.host_port)
            self._made += 1
            started = _Running(
                container=Container(
                    id=f"container-{self._made}", name=request.name, url=request.url, image=request.image
                ),
                labels={RUN_LABEL: "1", **request.labels},
            )
            environment = container_environment(request)
            program = self._programs[request.image]
            started.thread = threading.Thread(target=started.run, args=(program, environment), daemon=True)
            started.thread.start()
            self._running[request.name] = started
        try:
            self._wait_until_ready(request, started)
        except BaseException:
            self.stop(started.container.id)
            raise
        return started.container

    def follow(self, container: str, write: Callable[[str], None]) -> None:
        found, told = self._find(container), 0
        if found is None:
            return
        while True:
            with found.changed:
                if told == len(found.lines) and found.runs:
                    found.changed.wait(_LOOK_SECONDS)
                lines, told = found.lines[told:], len(found.lines)
            for line in lines:
                write(line)
            if not found.runs and told == len(found.lines):
                return

    def logs(self, container: str, *, lines: int = 50) -> str:
        found = self._find(container)
        return "" if found is None else "\n".join(found.lines[-lines:])

    def is_running(self, container: str) -> bool:
        found = self._find(container)
        return found is not None and found.runs

    def end(self, container: str) -> None:
        """End a container as the engine's own command would; the container is not removed."""
        found = self._find(container)
        if found is not None:
            found.end()

    def stop(self, container: str) -> None:
        found = self._find(container)
        if found is None or found.labels.get(RUN_LABEL) != "1":
            return
        found.end()
        with self._lock:
            if self._running.get(found.container.name) is found:
                del self._running[found.container.name]

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        wanted = {RUN_LABEL: "1", **labels}.items()
        with self._lock:
            found = [one.container for one in self._running.values() if wanted <= one.labels.items()]
        return tuple(sorted(found, key=lambda one: one.name))

    def _make_room(self, name: str) -> None:
        found = self._running.get(name)
        if found is None:
            return
        if found.runs:
            raise AlreadyExists(
                f"Container {name} is running.",
                remedy="Choose another --name, or stop the container.",
            )
        if found.labels.get(RUN_LABEL) != "1":
            raise AlreadyExists(f"Container {name} exists and was not created by Mendel.")
        del self._running[name]

    def _wait_until_ready(self, request: RunRequest, started: _Running) -> None:
        deadline = time.monotonic() + request.ready_within.total_seconds()
        while time.monotonic() < deadline:
            if not started.runs:
                raise self._not_ready(request, started, "ended before it was ready")
            if is_ready(request.url, request.model):
                return
            time.sleep(_LOOK_SECONDS)
        raise self._not_ready(request, started, f"was not ready within {request.ready_within.total_seconds():g} s")

    def _not_ready(self, request: RunRequest, started: _Running, how: str) -> ProgramFailed:
        log = self.logs(started.container.id)
        return ProgramFailed(f"The container of {request.image} {how}.", log_tail=log)

    def _find(self, container: str) -> _Running | None:
        with self._lock:
            found = self._running.values()
            return next((one for one in found if container in {one.container.id, one.container.name}), None)
