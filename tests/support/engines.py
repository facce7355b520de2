"""Container engines with storage and daemons of their own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

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


def _unmount(room: Path) -> None:
    with suppress(OSError):
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{room}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
