"""Container engines with storage and daemons of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    with tempfile.TemporaryDirectory(prefix="mendel-engines-", ignore_cleanup_errors=True) as directory:
        room = Path(directory)
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
        try:
            yield environment
        finally:
            for command in (["rm", "--all", "--force"], ["rmi", "--all", "--force"]):
                subprocess.run(["podman", *command], env=environment, capture_output=True, check=False)
            _unmount(room)


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
