"""Package indexes that suites of several ports stand on."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from mendel.adapters.memory.wheels import MemoryIndex
from mendel.images import BasePin, Platform, WheelPin
from mendel.values import Digest
from support.wheels import wheel


class Index(Protocol):
    """What a test does with a package index."""

    def add(self, filename: str, content: bytes) -> WheelPin:
        """Put a wheel into it, in place of one of that name."""

    def add_sources(self, name: str) -> None:
        """Put a distribution without wheels into it."""

    def remove(self, filename: str) -> None:
        """Withdraw a wheel."""

    def go_offline(self) -> None:
        """Let nobody reach it."""


class OfflineMemoryIndex(MemoryIndex):
    """The index in memory, with the test's word for being offline."""

    def go_offline(self) -> None:
        self.reachable = False


@dataclass(frozen=True)
class PipIndex:
    """A directory that is all that pip knows."""

    directory: Path
    environment: pytest.MonkeyPatch

    def add(self, filename: str, content: bytes) -> WheelPin:
        (self.directory / filename).write_bytes(content)
        name, version, *_ = filename.split("-")
        digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
        return WheelPin(
            name=name.replace("_", "-"), version=version, filename=filename, sha256=digest, size_bytes=len(content)
        )

    def add_sources(self, name: str) -> None:
        with tarfile.open(self.directory / f"{name}-1.0.tar.gz", "w:gz") as archive:
            content = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
            entry = tarfile.TarInfo(f"{name}-1.0/PKG-INFO")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    def remove(self, filename: str) -> None:
        (self.directory / filename).unlink()

    def go_offline(self) -> None:
        self.environment.delenv("PIP_NO_INDEX")
        self.environment.delenv("PIP_FIND_LINKS")
        self.environment.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        self.environment.setenv("PIP_RETRIES", "1")


@pytest.fixture
def pip_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipIndex:
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return PipIndex(directory, monkeypatch)


@pytest.fixture
def add(index: Index) -> Callable[..., WheelPin]:
    """Puts a tiny wheel into the index; the same name with other files is other content under it."""

    def make(*of: str, **more: object) -> WheelPin:
        return index.add(*wheel(*of, **more))  # type: ignore[arg-type]

    return make


@pytest.fixture
def base() -> BasePin:
    digest = Digest(f"sha256:{'0' * 64}")
    return BasePin(reference="test", digest=digest, python="3.11", interpreter="/usr/bin/python3", glibc="2.36")


@pytest.fixture
def at(base: BasePin) -> dict[str, object]:
    """Where wheels are to run."""
    return {"base": base, "platform": Platform.parse("linux/amd64")}
