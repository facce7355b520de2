"""Container engines with storage and daemons of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from support.programs import program
from support.waiting import until

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
log_driver = "k8s-file"
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{room}/tmp"
"""
MEMORY, PLENTY_BYTES = Path("/dev/shm"), 12 << 30  # noqa: S108 - a directory of this run is made there
"""Where files stand in memory, and how much of it must be free: the largest test stores 3 GB."""
STORAGE_CONF = """
[storage]
driver = "{driver}"
graphroot = "{room}/graph"
runroot = "{room}/run"
"""


@pytest.fixture(scope="session")
def podman_environment(need: Callable[..., None]) -> Iterator[dict[str, str]]:
    """The environment in which podman and buildah work as root anywhere, its storage gone with the session."""
    need("podman", "buildah", "runc")
    with _engine_room() as room:
        environment = engine_environment(room)
        try:
            yield environment
        finally:
            subprocess.run(
                ["podman", "rm", "--all", "--force", "--time=0"], env=environment, capture_output=True, check=False
            )
            _unmount(room)


@contextmanager
def _engine_room() -> Iterator[Path]:
    """
    A directory for the storage of engines: in memory where there is plenty, for they write and delete many small files.

    What a killed run left is removed first; whoever uses such a directory holds a lock in it.
    """
    place = MEMORY if _has_plenty_of(MEMORY) else Path(tempfile.gettempdir())
    with ExitStack() as closing:
        with (place / "mendel-engines.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            for left in place.glob("mendel-engines-*/held"):
                _remove_unless_held(left)
            made = tempfile.TemporaryDirectory(prefix="mendel-engines-", dir=place, ignore_cleanup_errors=True)
            room = Path(closing.enter_context(made))
            held = closing.enter_context((room / "held").open("w"))
            fcntl.flock(held, fcntl.LOCK_EX)
        yield room


def _has_plenty_of(memory: Path) -> bool:
    if not memory.is_dir() or shutil.disk_usage(memory).free < PLENTY_BYTES:
        return False
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next((line for line in lines if line.startswith("MemAvailable:")), "MemAvailable: 0 kB")
    return int(available.split()[1]) * 1024 > PLENTY_BYTES


def _remove_unless_held(file: Path) -> None:
    with suppress(OSError), file.open("r") as held:  # gone, or held by a run that goes on
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _unmount(file.parent)
        shutil.rmtree(file.parent, ignore_errors=True)


def engine_environment(room: Path) -> dict[str, str]:
    """Configure podman and buildah in *room* with a storage of their own; give the variables that name it."""
    environment = {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_CONF": str(room / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(room / "storage.conf"),
        "DOCKER_HOST": f"unix://{room}/docker/socket",
    }
    (room / "containers.conf").write_text(CONTAINERS_CONF.format(room=room))
    for driver in ("overlay", "vfs"):
        (room / "storage.conf").write_text(STORAGE_CONF.format(room=room, driver=driver))
        if subprocess.run(["podman", "info"], env=environment, capture_output=True, check=False).returncode == 0:
            break
    return environment


@contextmanager
def filling(store: Path) -> Iterator[dict[str, str]]:
    """An environment in which podman stores its images in *store*, for :func:`share_layers`."""
    with tempfile.TemporaryDirectory(prefix="mendel-layers-", ignore_cleanup_errors=True) as directory:
        room = Path(directory)
        (room / "graph").symlink_to(store)
        try:
            yield engine_environment(room)
        finally:
            for mounted in (store.resolve(), room):
                _unmount(mounted)


def share_layers(environment: dict[str, str], store: Path) -> None:
    """Let the podman of *environment* find the layers of *store*, which it does not change."""
    with Path(environment["CONTAINERS_STORAGE_CONF"]).open("a") as configuration:
        configuration.write(f'[storage.options]\nadditionalimagestores = ["{store}"]\n')


@pytest.fixture(scope="module")
def docker_daemon(need: Callable[..., None], podman_environment: dict[str, str]) -> Iterator[None]:
    """A docker daemon at the socket that the environment names; the machine has one bridge, so others wait."""
    need("dockerd", "docker")
    with (Path(tempfile.gettempdir()) / "mendel-tests-docker.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with _daemon(podman_environment):
            yield


@pytest.fixture(scope="module")
def docker_builder(need: Callable[..., None], podman_environment: dict[str, str]) -> Iterator[None]:
    """A docker daemon without a network, which is enough to build."""
    need("dockerd", "docker")
    with _daemon(podman_environment, "--bridge=none"):
        yield


@contextmanager
def _daemon(environment: dict[str, str], *options: str) -> Iterator[None]:
    room = Path(environment["DOCKER_HOST"].removeprefix("unix://")).parent
    room.mkdir()
    places = (f"--data-root={room}/data", f"--exec-root={room}/exec", f"--pidfile={room}/pid")
    alone = ("--iptables=false", "--ip6tables=false", "--ip-forward=false", f"--host={environment['DOCKER_HOST']}")
    with (room / "log").open("wb") as log:
        daemon = subprocess.Popen([str(program("dockerd")), *places, *alone, *options], stdout=log, stderr=log)
    try:
        ask = ["docker", "version"]
        until(
            lambda: subprocess.run(ask, env=environment, capture_output=True, check=False).returncode == 0,
            within=60,
            every=0.1,
            told=(room / "log").read_text,
        )
        yield
    finally:
        daemon.terminate()
        daemon.wait(30)
        _unmount(room)
        shutil.rmtree(room, ignore_errors=True)


def _unmount(room: Path) -> None:
    with suppress(OSError):
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{room}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
