"""The contract of Bases, over memory and image layouts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

import pytest

from mendel.adapters.memory.base_images import MemoryBases
from mendel.adapters.oci.base_images import BaseImages
from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import BuildRefused, DigestMismatch, ImageNotFound
from mendel.images import Bases, Platform
from mendel.images.manifests import CONFIG, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.images.tar_archives import File, Symlink, write_tar
from mendel.values import Digest

AMD, ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
TAR = "application/vnd.oci.image.layer.v1.tar"


def root(python: str | None, glibc: str | None) -> bytes:
    """The tar of a root file system as far as it decides about wheels."""
    entries = [Symlink(path="lib", target="usr/lib"), File.of("usr/bin/true", b"elf")]
    if python:
        entries.append(File.of(f"usr/bin/python{python}", b"elf", executable=True))
    if glibc:
        library = f"GNU C Library stable release version {glibc}.".encode()
        entries.append(File.of("usr/lib/x86_64-linux-gnu/libc.so.6", library))
    return b"".join(write_tar(entries))


class Shelf(Protocol):
    """What a test does with bases."""

    bases: Bases

    def put(
        self, name: str, platform: Platform = AMD, *, python: str | None = "3.11", glibc: str | None = "2.36"
    ) -> Digest:
        """Let *name* mean another base."""

    def reference(self, name: str) -> str:
        """By which it is asked for."""

    def withdraw(self, name: str) -> None:
        """Take the place away where it came from."""


class MemoryShelf:
    def __init__(self, directory: Path) -> None:
        self.bases = MemoryBases(directory)

    def put(self, name: str, platform: Platform = AMD, **facts: str | None) -> Digest:
        facts = {"python": "3.11", "glibc": "2.36", **facts}
        return self.bases.add(name, platform, [root(facts["python"], facts["glibc"])], **facts)

    def reference(self, name: str) -> str:
        return name

    def withdraw(self, name: str) -> None:
        self.bases.remove(name, AMD)


class LayoutShelf:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.bases = BaseImages(cache=Layout(directory / "cache"), root=directory)

    def put(
        self, name: str, platform: Platform = AMD, *, python: str | None = "3.11", glibc: str | None = "2.36"
    ) -> Digest:
        layout, layer = Layout(self._directory / name), root(python, glibc)
        config = canonical_json(
            {"os": platform.os, "architecture": platform.architecture, "config": {"Env": ["PATH=/usr/bin:/bin"]}}
        )
        described = (Descriptor.of(layer, TAR),)
        manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=described).as_json()
        for content in (layer, config, manifest):
            layout.put(content)
        layout.name(("base",), image := Descriptor.of(manifest, MANIFEST))
        return image.digest

    def reference(self, name: str) -> str:
        return f"oci:{name}:base"

    def withdraw(self, name: str) -> None:
        shutil.rmtree(self._directory / name)


@pytest.fixture(params=["memory", "layout"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return MemoryShelf(tmp_path) if request.param == "memory" else LayoutShelf(tmp_path)


def test_what_decides_about_wheels_is_read(shelf):
    """The pin has the manifest's digest, the Python that is found first, and the C library's version."""
    digest = shelf.put("a")
    pin = shelf.bases.pin(shelf.reference("a"), AMD)
    assert (pin.reference, pin.digest) == (shelf.reference("a"), digest)
    assert (pin.python, pin.interpreter, pin.glibc) == ("3.11", "/usr/bin/python3.11", "2.36")
    assert shelf.bases.pin(shelf.reference("a"), AMD) == pin


def test_a_pinned_base_is_loaded_with_all_its_blobs(shelf):
    """Manifest, configuration and layers are files on this machine with the content of their digests."""
    shelf.put("a")
    pin = shelf.bases.pin(shelf.reference("a"), AMD)
    base = shelf.bases.load(pin, AMD)
    assert base.descriptor.digest == pin.digest
    assert Manifest.parse(base.blobs.read(pin.digest)) == base.manifest
    assert base.config["architecture"] == "amd64"
    (layer,) = base.manifest.layers
    assert base.blobs.path(layer.digest).read_bytes() == root("3.11", "2.36")
    assert shelf.bases.load(pin, AMD).descriptor == base.descriptor


def test_a_pin_outlives_its_name(shelf):
    """A name that moved means the new image; the pinned one is still loaded, also when its place is gone."""
    old = shelf.put("a")
    pin = shelf.bases.pin(shelf.reference("a"), AMD)
    new = shelf.put("a", python="3.12")
    assert shelf.bases.pin(shelf.reference("a"), AMD).digest == new != old
    shelf.withdraw("a")
    assert shelf.bases.load(pin, AMD).descriptor.digest == old


def test_what_there_is_not_is_not_found(shelf):
    """An unknown name, another platform and a digest that no place has are told apart from a base that is unfit."""
    shelf.put("a")
    pin = shelf.bases.pin(shelf.reference("a"), AMD)
    with pytest.raises(ImageNotFound):
        shelf.bases.pin(shelf.reference("absent"), AMD)
    with pytest.raises(ImageNotFound, match="linux/arm64"):
        shelf.bases.pin(shelf.reference("a"), ARM)
    with pytest.raises(ImageNotFound):
        shelf.bases.load(pin, ARM)


@pytest.mark.parametrize("lacking", ["python", "glibc"])
def test_a_base_that_carries_no_wheels_is_refused(shelf, lacking):
    """Without Python, or without the C library that wheels are made for, there is no pin."""
    shelf.put("a", **{lacking: None})
    with pytest.raises(BuildRefused, match="cannot be used for a classifier") as refused:
        shelf.bases.pin(shelf.reference("a"), AMD)
    assert refused.value.reasons


def test_damage_is_found(shelf):
    """A manifest that the disk changed is not handed out."""
    shelf.put("a")
    pin = shelf.bases.pin(shelf.reference("a"), AMD)
    path = shelf.bases.load(pin, AMD).blobs.path(pin.digest)
    path.write_bytes(b"{}" + b" " * (path.stat().st_size - 2))
    with pytest.raises(DigestMismatch):
        shelf.bases.load(pin, AMD)
