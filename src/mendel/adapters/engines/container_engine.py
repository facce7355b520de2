"""Find the installed container engines, and run images with docker or podman."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from mendel.adapters.engines.external_program import Ended, Program
from mendel.errors import AlreadyExists, ImageNotFound, ProgramFailed, Unsupported
from mendel.images import RUN_LABEL, Container, ContainerRunner, RunRequest, container_environment
from mendel.images.container_readiness import is_ready, require_free
from mendel.images.image_archives import archive_references

RUNNERS = ("docker", "podman")
BUILDERS = ("docker", "podman", "buildah")

_PULLED = "docker.io/"
_URL = f"{RUN_LABEL}.url"
_IMAGE = f"{RUN_LABEL}.image"
_LOADING = timedelta(minutes=30)
_DETECTION = timedelta(seconds=10)
_STOPPING_SECONDS = 35
"""Seconds before the engine kills a container; slightly longer than a server needs to finish its requests."""
_LOOK_SECONDS = 0.1
_LOOKS_AT_STATE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFound:
    """
    A container engine and whether it works on this machine.

    Attributes:
        version: The program's version; empty if the program is not installed.
        answers: Whether the engine can run commands now; False for a docker client without a daemon.
        why_not: The engine's error message; empty if the engine works.
    """

    name: str
    version: str
    answers: bool
    why_not: str


def find_engines(
    names: tuple[str, ...] = BUILDERS, environment: Mapping[str, str] | None = None
) -> tuple[EngineFound, ...]:
    """Check each engine of *names*, in that order."""
    return tuple(_found(Program(name, environment)) for name in names)


def _found(program: Program) -> EngineFound:
    if shutil.which(program.name, path=program.environment.get("PATH")) is None:
        return EngineFound(name=program.name, version="", answers=False, why_not="It is not installed.")
    try:
        version = program.answer("--version", within=_DETECTION).strip()
        asked = program.attempt("info", within=_DETECTION)
    except (ProgramFailed, Unsupported) as error:
        return EngineFound(name=program.name, version="", answers=False, why_not=error.message)
    daemon_lacks = asked.code != 0 or "Cannot connect to the Docker daemon" in asked.err
    words = version.replace(",", "").split()
    return EngineFound(
        name=program.name,
        version=words[2] if len(words) > 2 else version,  # noqa: PLR2004 - "podman version 4.3.1"
        answers=not daemon_lacks,
        why_not=f"{asked.complaint}." if daemon_lacks else "",
    )


class EngineProgram(ContainerRunner):
    """
    Implements :class:`mendel.images.ContainerRunner` with the command line of docker or podman.

    Environment variables (``DOCKER_HOST``, ``CONTAINERS_CONF``) configure the engine.

    Args:
        name: ``docker`` or ``podman``.
        environment: All environment variables of the engine; None passes Mendel's own environment variables.
    """

    def __init__(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        if name not in RUNNERS:
            raise Unsupported(f"{name} cannot run images.", remedy=f"Use {' or '.join(RUNNERS)}.")
        self.name = name
        self.program = Program(name, environment)

    def load(self, archive: Path) -> None:
        """
        Load the image archive; podman uses ``pull``, because podman's ``load`` would create a different manifest.

        podman's ``pull`` adds ``docker.io`` to a name without a registry, and ``tag`` adds ``localhost``; the name with
        ``docker.io`` is removed.
        """
        references = archive_references(archive)
        if self.name == "docker":
            self.program.answer("load", "--quiet", "--input", str(archive), within=_LOADING)
            return
        pulled = self.program.answer("pull", "--quiet", f"oci-archive:{archive}:{references[0]}", within=_LOADING)
        image = pulled.split()[-1]
        self.program.answer("tag", image, *references)
        self.program.attempt("untag", image, f"{_PULLED}{references[0]}")

    def run(self, request: RunRequest) -> Container:
        """
        Start a container from a local image, without pulling; the container is removed if it does not become ready.
        """
        if self.program.attempt("image", "inspect", request.image).code:
            raise ImageNotFound(
                f"{self.name} has no image {request.image}.",
                remedy=("Build and load the image with: mendel build --load"),
            )
        self._make_room(request.name)
        require_free(request.address, request.host_port)
        try:
            self.program.answer(*self._run_arguments(request), environment=self._unseen(request), within=_LOADING)
            self._wait_until_ready(request)
            return self._described(self._inspected(request.name))
        except BaseException:  # also KeyboardInterrupt: the container is removed on every failure
            self._remove(request.name)
            raise

    def follow(self, container: str, write: Callable[[str], None]) -> None:
        self.program.watch("logs", "--follow", container, within=None, write=write)

    def logs(self, container: str, *, lines: int = 50) -> str:
        ended = self.program.attempt("logs", "--tail", str(lines), container)
        return "" if ended.code else f"{ended.out}{ended.err}".strip()

    def is_running(self, container: str) -> bool:
        found = self._inspect(container)
        return found is not None and bool(found["State"]["Running"])

    def stop(self, container: str) -> None:
        """
        Send SIGTERM, let the engine kill the container after 35 s, and remove it; containers that Mendel did not start
        are left alone.
        """
        if self._is_ours(container):
            grace = timedelta(seconds=_STOPPING_SECONDS + 30)
            self.program.attempt("stop", "-t", str(_STOPPING_SECONDS), container, within=grace)
            self._remove(container)

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        wanted = {RUN_LABEL: "1", **labels}
        filters = (f"--filter=label={name}={value}" for name, value in sorted(wanted.items()))
        ids = self.program.answer("ps", "--all", "--quiet", "--no-trunc", *filters).split()
        if not ids:
            return ()
        found = json.loads(self.program.attempt("container", "inspect", *ids).out or "[]")
        return tuple(sorted((self._described(one) for one in found), key=lambda one: one.name))

    def _run_arguments(self, request: RunRequest) -> list[str]:
        labels = {RUN_LABEL: "1", _URL: request.url, _IMAGE: request.image, **request.labels}
        address = f"{request.address}:" if request.address else ""
        unseen, told = sorted(self._unseen(request)), sorted(container_environment(request).items())
        return [
            *("run", "--detach", "--pull=never", f"--name={request.name}"),
            f"--publish={address}{request.host_port}:{request.listens_on}",
            *(f"--label={name}={value}" for name, value in sorted(labels.items())),
            *(f"--env={name}" for name in unseen),
            *(f"--env={name}={value}" for name, value in told if name not in unseen),
            *(f"--volume={volume}" for volume in request.volumes),
            request.image,
        ]

    def _unseen(self, request: RunRequest) -> dict[str, str]:
        """
        Select the user's variables to pass through the engine's environment, since process lists show command-line
        values.

        A variable that the engine itself uses with another value (such as ``PATH``) is passed on the command line.
        """
        own = self.program.environment
        return {name: value for name, value in request.environment.items() if own.get(name, value) == value}

    def _make_room(self, name: str) -> None:
        found = self._inspect(name)
        if found is None:
            return
        ours, runs = _labels(found).get(RUN_LABEL) == "1", bool(found["State"]["Running"])
        if runs or not ours:
            raise AlreadyExists(
                f"Container {name} is running." if runs else f"Container {name} exists and was not created by Mendel.",
                remedy=f"Choose another --name, or remove the container: {self.name} rm --force {name}",
            )
        self._remove(name)

    def _wait_until_ready(self, request: RunRequest) -> None:
        deadline = time.monotonic() + request.ready_within.total_seconds()
        looks = 0
        while time.monotonic() < deadline:
            ready, looks = is_ready(request.url, request.model), looks + 1
            if (ready or looks % _LOOKS_AT_STATE == 0) and not self.is_running(request.name):
                raise self._not_ready(request, "ended before it was ready")
            if ready:
                return
            time.sleep(_LOOK_SECONDS)
        raise self._not_ready(request, f"was not ready within {request.ready_within.total_seconds():g} s")

    def _not_ready(self, request: RunRequest, how: str) -> ProgramFailed:
        log = self.logs(request.name)
        remedy = "The end of the container's log, below, says why." if log else "The container printed nothing."
        return ProgramFailed(f"The container of {request.image} {how}.", log_tail=log, remedy=remedy)

    def _is_ours(self, container: str) -> bool:
        found = self._inspect(container)
        return found is not None and _labels(found).get(RUN_LABEL) == "1"

    def _remove(self, container: str) -> None:
        ended = self.program.attempt("rm", "--force", "--volumes", container)
        if ended.code and self._inspect(container) is not None:
            raise self.program.failed(("rm", container), ended)

    def _inspected(self, container: str) -> dict[str, Any]:
        found = self._inspect(container)
        if found is None:
            raise ProgramFailed(
                f"The container {container} no longer exists.", remedy="Start the container again with: mendel run"
            )
        return found

    def _inspect(self, container: str) -> dict[str, Any] | None:
        ended = self.program.attempt("container", "inspect", container)
        if not ended.code:
            return dict(json.loads(ended.out)[0])
        if _is_absent(ended):
            return None
        raise self.program.failed(("container", "inspect"), ended)

    def _described(self, found: Mapping[str, Any]) -> Container:
        labels = _labels(found)
        return Container(
            id=found["Id"],
            name=str(found["Name"]).lstrip("/"),
            url=labels.get(_URL, ""),
            image=labels.get(_IMAGE, ""),
        )


def _labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    return found["Config"].get("Labels") or {}


def _is_absent(ended: Ended) -> bool:
    return "no such container" in ended.err.lower()
