"""A project, wheels and a base made by hand in one directory, built by whatever Python runs this: prints the digest."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mendel.adapters.oci.image_builder import OciEngine
from mendel.adapters.oci.layers.compression import compress
from mendel.adapters.oci.layers.layer_cache import LayerCache
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.sandbox.load_check import LoadCheck
from mendel.images import (
    BasePin,
    Environment,
    ImageName,
    ImagePlan,
    LoadedBase,
    OnProgress,
    Platform,
    RunSettings,
    RuntimePin,
    SourceFile,
    TaskProgress,
    WheelPin,
    ignore_progress,
)
from mendel.images.manifests import CONFIG, LAYER, Descriptor, Manifest, canonical_json
from mendel.images.tar_archives import Entry, File, write_tar
from mendel.values import Digest


@dataclass(frozen=True)
class OneBase:
    pin: BasePin
    loaded: LoadedBase

    def load(self, pin: BasePin, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> LoadedBase:
        return self.loaded


@dataclass(frozen=True)
class Shelf:
    directory: Path

    def path(self, pin: WheelPin) -> Path:
        return self.directory / pin.filename

    def fetch(self, pins: Sequence[WheelPin], *, base: BasePin, platform: Platform, on_progress: OnProgress) -> None:
        assert all(self.path(pin).is_file() for pin in pins)


_HEALTHCHECK = ("app/server/__init__.py", "app/server/healthcheck.py")
MENDEL = {f"mendel/{name}": b"" for name in ("__init__.py", "app/__init__.py", *_HEALTHCHECK, "app/cli/__init__.py")}
"""What an image is asked for before its predictor is."""


def digest_of_file(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def make_wheel(directory: Path, name: str, files: Mapping[str, bytes]) -> WheelPin:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-1.0-py3-none-any.whl"
    if not path.exists():
        information = f"{name}-1.0.dist-info"
        documents = {f"{information}/METADATA": f"Name: {name}\nVersion: 1.0\n".encode(), f"{information}/RECORD": b""}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, content in {**files, **documents}.items():
                archive.writestr(file, content)
    return WheelPin(
        name=name, version="1.0", filename=path.name, sha256=digest_of_file(path), size_bytes=path.stat().st_size
    )


def make_base(directory: Path, entries: Iterable[Entry], *, interpreter: str, python: str) -> OneBase:
    layout = Layout(directory)
    with layout.writing() as file:
        layer = compress(write_tar(entries), file)
        layout.keep(file, layer.digest)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}}
    layout.put(canonical_json(config))
    manifest = Manifest(
        config=Descriptor.of(canonical_json(config), CONFIG),
        layers=(Descriptor(media_type=LAYER, digest=layer.digest, size=layer.size),),
    )
    digest = layout.put(manifest.as_json())
    pin = BasePin(reference="base:1", digest=digest, python=python, interpreter=interpreter, glibc="2.36")
    loaded = LoadedBase(descriptor=layout.descriptor(digest), manifest=manifest, config=config, blobs=layout)
    return OneBase(pin, loaded)


@dataclass(frozen=True)
class Lab:
    room: Path
    base: OneBase

    @property
    def layout(self) -> Layout:
        return Layout(self.room / "images")

    def engine(self, *, limit: timedelta = timedelta(minutes=1)) -> OciEngine:
        return OciEngine(
            layout=self.layout,
            layers=LayerCache(self.room / "cache" / "layers"),
            bases=self.base,
            wheels=Shelf(self.room / "wheels"),
            verifier=LoadCheck(self.room / "cache" / "rootfs", limit=limit),
        )

    def source(self, name: str) -> SourceFile:
        path = self.room / "project" / name
        return SourceFile(path=name, source=path, size_bytes=path.stat().st_size, digest=digest_of_file(path))

    def plan(self, code: str, *, artifacts: tuple[str, ...] = (), class_name: str = "Model") -> ImagePlan:
        (self.room / "project").mkdir(exist_ok=True, parents=True)
        model = self.room / "project" / "model.py"
        if not model.exists() or model.read_text(encoding="utf-8") != code:  # another build may be reading it
            model.write_text(code, encoding="utf-8")
        wheels = self.room / "wheels"
        return ImagePlan(
            classifier="credit",
            name=ImageName(repository="risk", classifier="credit"),
            tags=("latest", "v1.0.0"),
            labels={"com.classifier.predictor.module": "model.py", "com.classifier.predictor.class": class_name},
            created=datetime(2026, 3, 1, 12, tzinfo=UTC),
            environment=Environment(
                classifiers=("credit",),
                platform="linux/amd64",
                inputs=Digest("sha256:" + "0" * 64),
                requirements=(),
                base=self.base.pin,
                wheels=(make_wheel(wheels, "alpha", {"alpha.py": b"A = 1\n", "alpha.bin": bytes(range(256)) * 9999}),),
            ),
            runtime=RuntimePin(
                version="1.0",
                commit=None,
                url=None,
                how="checkout",
                wheel=make_wheel(wheels, "mendel", MENDEL),
            ),
            artifacts=tuple(self.source(name) for name in artifacts),
            code=(self.source("model.py"),),
            manifest=b"{}",
            run=RunSettings(
                command=("/opt/mendel/bin/python",),
                environment={"HOME": "/data", "SAID": "by the image"},
                ports=(8000,),
                healthcheck=("/opt/mendel/bin/python",),
            ),
        )

    def build(self, plan: ImagePlan, *, limit: timedelta = timedelta(minutes=1)) -> Digest:
        """Build, verify, name."""
        engine = self.engine(limit=limit)
        image = engine.build(plan, use_cache=True, on_progress=ignore_progress)
        engine.verify(plan, image)
        engine.commit(plan, image)
        return image.digest


def empty_lab(room: Path) -> Lab:
    """A lab over a base without a Python: builds, but verifies nothing."""
    entries = [File.of("usr/bin/python3.11", b"elf", executable=True)]
    return Lab(room, make_base(room / "base", entries, interpreter="/usr/bin/python3.11", python="3.11"))


def main(room: Path, artifacts: tuple[str, ...], pause_seconds: float) -> None:
    """Build and name without verifying; pause at each step, so that a test can interrupt or kill."""
    lab = empty_lab(room)

    def on_progress(progress: TaskProgress) -> None:
        if pause_seconds and progress.doing == "artifacts":
            print("reading", flush=True)  # noqa: T201 - what the test waits for
            time.sleep(pause_seconds)

    plan, engine = lab.plan("class Model: pass\n", artifacts=artifacts), lab.engine()
    image = engine.build(plan, use_cache=True, on_progress=on_progress)
    engine.commit(plan, image)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"digest": image.digest, "peak_kib": peak}))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(filter(None, sys.argv[2].split(","))), float(sys.argv[3]))
