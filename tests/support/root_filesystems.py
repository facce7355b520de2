"""Real root file systems, made from Debian packages."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.shared import Once

BASE_PACKAGES = "base-files,base-passwd,ca-certificates,libgomp1,libstdc++6,netbase,python3,tzdata"


@pytest.fixture(scope="session")
def debian_rootfs(need: Callable[..., None], once: Once) -> Path:
    """The tar of a minimal root file system with Python, made from Debian packages once for all workers."""
    need("mmdebstrap")
    return once("debian-rootfs", lambda place: make_rootfs(place / "rootfs.tar", BASE_PACKAGES)) / "rootfs.tar"


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
