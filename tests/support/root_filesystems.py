"""Real root file systems, made from Debian packages."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mendel.adapters.oci.layout.layout import Layout
from support.shared import Once


@pytest.fixture(scope="session")
def mendel_base(need: Callable[..., None], once: Once) -> Path:
    """The layout of a base as ``mendel base`` makes it without options, made once for all workers."""
    need("mmdebstrap", root=False)
    return once("base", _make_base) / "base"


def _make_base(place: Path) -> None:
    command = [sys.executable, "-m", "mendel.app.cli", "base", "--output", str(place / "base")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MENDEL_")}
    made = subprocess.run(command, cwd=place, env=kept, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="session")
def debian_rootfs(mendel_base: Path, once: Once) -> Path:
    """The tar of a minimal root file system with Python: the only layer of that base."""

    def unpack(place: Path) -> None:
        layout = Layout(mendel_base)
        (image,) = layout.named()
        (layer,) = layout.manifest(image.digest).layers
        with gzip.open(layout.path(layer.digest)) as packed, (place / "rootfs.tar").open("wb") as tar:
            shutil.copyfileobj(packed, tar)

    return once("debian-rootfs", unpack) / "rootfs.tar"


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
