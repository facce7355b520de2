"""A local index of tiny wheels, and what to resolve for."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mendel.adapters.pip import CachedWheels, write_wheel
from mendel.images import BasePin, Platform, WheelPin
from mendel.values import Digest

AddWheel = Callable[..., WheelPin]


@pytest.fixture
def base() -> BasePin:
    return BasePin(
        reference="test", digest=f"sha256:{'0' * 64}", python="3.11", interpreter="/usr/bin/python3", glibc="2.36"
    )


@pytest.fixture
def amd64() -> Platform:
    return Platform.parse("linux/amd64")


@pytest.fixture
def at(base: BasePin, amd64: Platform) -> dict[str, object]:
    """Where wheels are to run."""
    return {"base": base, "platform": amd64}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all pip knows."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.fixture
def add_wheel(index: Path) -> AddWheel:
    """Puts a wheel into the index; the same name again is other content under it."""

    def add(name: str, version: str, *requires: str, tag: str = "py3-none-any", content: str = "") -> WheelPin:
        stem = name.replace("-", "_")
        info = f"{stem}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        buffer = io.BytesIO()
        files = {
            f"{stem}.py": f"# {content}\n".encode(),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        }
        write_wheel(files, info, buffer)
        written = buffer.getvalue()
        filename = f"{stem}-{version}-{tag}.whl"
        (index / filename).write_bytes(written)
        digest = Digest(f"sha256:{hashlib.sha256(written).hexdigest()}")
        return WheelPin(name=name, version=version, filename=filename, sha256=digest, size_bytes=len(written))

    return add


@pytest.fixture
def add_sources(index: Path) -> Callable[[str, str], None]:
    """Puts an sdist into the index."""

    def add(name: str, version: str) -> None:
        with tarfile.open(index / f"{name}-{version}.tar.gz", "w:gz") as archive:
            content = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
            entry = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    return add


@pytest.fixture
def wheels(tmp_path: Path) -> CachedWheels:
    return CachedWheels(tmp_path / "cache", project=tmp_path / "project" / "mlserver.wheels")
