"""Real engines with storage of their own, and a real base made from Debian packages."""

from __future__ import annotations

import os
import shutil
import socket
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
BASE_PACKAGES = "base-files,base-passwd,ca-certificates,libgomp1,libstdc++6,netbase,python3,tzdata"


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip where programs are absent or root is asked for and not there, saying what to do; in CI, fail."""

    def check(*programs: str, root: bool = True) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        absent = [program for program in programs if shutil.which(program, path=path) is None]
        lacks = [f"{' and '.join(absent)} (run scripts/install_engines.sh)"] if absent else []
        lacks += ["root"] if root and os.geteuid() else []
        if lacks and os.environ.get("CI"):
            pytest.fail(f"CI runs this test, but there is no {' and no '.join(lacks)}")
        if lacks:
            pytest.skip(f"needs {' and '.join(lacks)}")

    return check


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


@pytest.fixture(scope="session")
def debian_rootfs(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a minimal root file system with Python, made from Debian packages."""
    need("mmdebstrap")
    tar = tmp_path_factory.mktemp("debian") / "rootfs.tar"
    make_rootfs(tar, BASE_PACKAGES)
    return tar


@pytest.fixture(scope="session")
def rootfs_of() -> Callable[[Path, str], None]:
    """What makes the tar of a root file system of named packages."""
    return make_rootfs


def make_rootfs(tar: Path, packages: str) -> None:
    """Write *tar*; dates in it are fixed."""
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={packages}", "bookworm", str(tar)]
    made = subprocess.run(
        command, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unmount(room: Path) -> None:
    with suppress(OSError):
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{room}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
