"""Wheels, bases and plans made by hand, small enough to build an image of in milliseconds."""

from __future__ import annotations

import hashlib
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mendel.adapters.oci.image_builder import OciEngine
from mendel.adapters.oci.layers.compression import compress
from mendel.adapters.oci.layers.layer_cache import LayerCache
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.sandbox.load_check import LoadCheck
from mendel.errors import WheelNotFound
from mendel.images import (
    BasePin,
    BuiltImage,
    Environment,
    ImageName,
    ImagePlan,
    LoadedBase,
    OnProgress,
    Platform,
    RunSettings,
    RuntimePin,
    SourceFile,
    WheelPin,
    ignore_progress,
)
from mendel.images.manifests import (
    CONFIG,
    DOCKER_MANIFEST,
    LAYER,
    Descriptor,
    Manifest,
    canonical_json,
)
from mendel.images.tar_archives import Entry, File, write_tar
from mendel.values import Digest

CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)
MakeWheel = Callable[..., Path]


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Writes ``name-version-py3-none-any.whl`` with the given files, METADATA and RECORD."""

    def make(
        name: str,
        files: Mapping[str | zipfile.ZipInfo, bytes],
        *,
        version: str = "1.0",
        entry_points: str | None = None,
        folder: str = "wheels",
        record: bool = True,
    ) -> Path:
        information = f"{name}-{version}.dist-info"
        whole: dict[str | zipfile.ZipInfo, bytes] = {
            **files,
            f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
            f"{information}/WHEEL": b"Wheel-Version: 1.0\n",
        }
        if entry_points is not None:
            whole[f"{information}/entry_points.txt"] = entry_points.encode()
        if record:
            rows = [f"{_name(key)},{_hash(content)},{len(content)}" for key, content in whole.items()]
            whole[f"{information}/RECORD"] = "\n".join([*rows, f"{information}/RECORD,,"]).encode()
        path = tmp_path / folder / f"{name}-{version}-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, content in whole.items():
                archive.writestr(key, content)
        return path

    return make


def _name(key: str | zipfile.ZipInfo) -> str:
    return key if isinstance(key, str) else key.filename


def _hash(content: bytes) -> str:
    return "sha256=" + urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def digest_of_file(path: Path) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")


def pin_of(path: Path) -> WheelPin:
    name, version, *_ = path.name.split("-")
    return WheelPin(
        name=name, version=version, filename=path.name, sha256=digest_of_file(path), size_bytes=path.stat().st_size
    )


@pytest.fixture
def pin() -> Callable[[Path], WheelPin]:
    """The pin of a wheel's file."""
    return pin_of


@dataclass
class Shelf:
    """Wheels in one directory; remembers what it was asked for."""

    directory: Path
    asked: list[str] = field(default_factory=list)

    def path(self, pin: WheelPin) -> Path:
        self.asked.append(pin.name)
        if not (self.directory / pin.filename).is_file():
            raise WheelNotFound(f"{pin.filename} is nowhere.")
        return self.directory / pin.filename

    def fetch(self, pins: Sequence[WheelPin], *, base: BasePin, platform: Platform, on_progress: OnProgress) -> None:
        for pin in pins:
            self.path(pin)


@dataclass(frozen=True)
class OneBase:
    """A base that is at hand."""

    pin: BasePin
    loaded: LoadedBase

    def load(self, pin: BasePin, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> LoadedBase:
        assert pin.digest == self.pin.digest
        return self.loaded


@dataclass
class Workshop:
    """A project, wheels, a base, and engines over caches and layouts of their own."""

    room: Path
    wheels: tuple[Path, ...]
    runtime: Path
    base: OneBase
    shelf: Shelf

    @property
    def project(self) -> Path:
        return self.room / "project"

    @property
    def layout(self) -> Layout:
        return Layout(self.room / "images")

    def source(self, name: str, *, executable: bool = False) -> SourceFile:
        path = self.project / name
        return SourceFile(
            path=name,
            source=path,
            size_bytes=path.stat().st_size,
            digest=digest_of_file(path),
            executable=executable,
        )

    def plan(self, **changes: Any) -> ImagePlan:
        pins = tuple(sorted((pin_of(wheel) for wheel in self.wheels), key=lambda pin: pin.name))
        plan = ImagePlan(
            classifier="credit",
            name=ImageName(repository="risk", classifier="credit"),
            tags=("latest", "v1.0.0"),
            labels={
                "com.classifier.name": "credit",
                "com.classifier.predictor.module": "model.py",
                "com.classifier.predictor.class": "Model",
            },
            created=CREATED,
            environment=Environment(
                classifiers=("credit",),
                platform="linux/amd64",
                inputs=Digest("sha256:" + "0" * 64),
                requirements=(),
                base=self.base.pin,
                wheels=pins,
            ),
            runtime=RuntimePin(version="1.0", commit="c" * 40, url=None, how="checkout", wheel=pin_of(self.runtime)),
            artifacts=(self.source("model.bin"),),
            code=(self.source("model.py"),),
            manifest=b'{"files":[]}',
            run=RunSettings(
                command=("/opt/mendel/bin/python", "-m", "mendel.app.cli", "serve"),
                environment={"HOME": "/data", "PYTHONUNBUFFERED": "1"},
                ports=(8000, 7212, 7211),
                healthcheck=("/opt/mendel/bin/python", "-m", "mendel.app.server.healthcheck", "/data"),
            ),
        )
        return replace(plan, **changes)

    def engine(self, *, cache: str = "cache", layout: Layout | None = None, **limits: Any) -> OciEngine:
        return OciEngine(
            layout=self.layout if layout is None else layout,
            layers=LayerCache(self.room / cache / "layers", **limits),
            bases=self.base,
            wheels=self.shelf,
            verifier=LoadCheck(self.room / cache / "rootfs"),
        )

    def build(self, plan: ImagePlan | None = None, **how: Any) -> BuiltImage:
        """Build and name in one go."""
        engine, plan = self.engine(**how), self.plan() if plan is None else plan
        image = engine.build(plan, use_cache=True, on_progress=ignore_progress)
        engine.commit(plan, image)
        return image


@pytest.fixture
def make_base() -> Callable[..., OneBase]:
    """A base of one layer of the given entries, in a layout."""

    def make(directory: Path, entries: Iterable[Entry], *, docker: bool = False, **settings: Any) -> OneBase:
        layout = Layout(directory)
        with layout.writing() as file:
            layer = compress(write_tar(entries), file)
            layout.keep(file, layer.digest)
        config = {
            "architecture": settings.pop("architecture", "amd64"),
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
                "Labels": {"of": "the base"},
                "Entrypoint": ["/x"],
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [{"created_by": "debian"}, {"created_by": "ENV", "empty_layer": True}],
            **settings,
        }
        kind = "application/vnd.docker.image.rootfs.diff.tar.gzip" if docker else LAYER
        media_type = DOCKER_MANIFEST if docker else Manifest.media_type
        layout.put(canonical_json(config))
        manifest = Manifest(
            config=Descriptor.of(canonical_json(config), CONFIG),
            layers=(Descriptor(media_type=kind, digest=layer.digest, size=layer.size),),
            media_type=media_type if docker else "application/vnd.oci.image.manifest.v1+json",
        )
        digest = layout.put(manifest.as_json())
        pin = BasePin(
            reference="python:3.11-slim", digest=digest, python="3.11", interpreter="/usr/bin/python3.11", glibc="2.36"
        )
        descriptor = Descriptor(media_type=media_type, digest=digest, size=len(manifest.as_json()))
        return OneBase(pin, LoadedBase(descriptor=descriptor, manifest=manifest, config=config, blobs=layout))

    return make


@pytest.fixture
def make_workshop(tmp_path: Path, make_wheel: MakeWheel, make_base: Callable[..., OneBase]) -> Callable[..., Workshop]:
    """Gives workshops with equal content in rooms of their own."""

    def make(name: str = "room") -> Workshop:
        room = tmp_path / name
        (room / "project").mkdir(parents=True)
        (room / "project" / "model.py").write_text("class Model: pass\n", encoding="utf-8")
        (room / "project" / "model.bin").write_bytes(b"weights" * 1000)
        wheels = (
            make_wheel("alpha", {"alpha/__init__.py": b"A = 1\n"}, entry_points="[console_scripts]\nalpha = alpha:A\n"),
            make_wheel("beta", {"beta.py": b"B = 2\n"}),
            make_wheel("large", {"large.bin": _noise(2_000_000)}),
        )
        runtime = make_wheel("mendel", {"mendel/__init__.py": b""})
        base = make_base(room / "base", [File.of("usr/bin/python3.11", b"elf", executable=True)])
        return Workshop(room, wheels, runtime, base, Shelf(tmp_path / "wheels"))

    return make


@pytest.fixture
def workshop(make_workshop: Callable[..., Workshop]) -> Workshop:
    """One workshop."""
    return make_workshop()


def _noise(size: int) -> bytes:
    """Bytes that do not compress, always the same."""
    return b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(size // 32))
