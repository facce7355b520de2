"""The contract of ImageStore, over memory, image layouts and podman."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from mendel.adapters.engines import EngineImages, EngineProgram
from mendel.adapters.memory.image_store import MemoryImageStore
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.layout.layout_images import LayoutImages
from mendel.images import ImageRecord, ImageStore
from mendel.images.image_archives import write_archive
from mendel.images.manifests import CONFIG, MANIFEST, Descriptor, Manifest, canonical_json, digest_of
from mendel.images.tar_archives import File, write_tar
from mendel.values import Digest

START = datetime(2026, 3, 1, tzinfo=UTC)
TAR = "application/vnd.oci.image.layer.v1.tar"


class Shelf(Protocol):
    """A store, and what puts images into it."""

    store: ImageStore
    repository: str

    def put(self, *tags: str, age_days: int = 0) -> Digest:
        """An image of its own content under these tags of the repository; gives the digest by which it is listed."""


class MemoryShelf:
    def __init__(self) -> None:
        self.repository = "risk"
        self.store = MemoryImageStore()

    def put(self, *tags: str, age_days: int = 0) -> Digest:
        digest = digest_of(f"{tags} {age_days}".encode())
        self.store.add(
            ImageRecord(
                digest=digest,
                references=tuple(f"{self.repository}/credit:{tag}" for tag in tags),
                created=START - timedelta(days=age_days),
                size_bytes=1,
                labels={"com.classifier.repository": self.repository},
                platform="linux/amd64",
            )
        )
        return digest


class LayoutShelf:
    def __init__(self, directory: Path) -> None:
        self.repository = f"risk-{uuid4().hex[:8]}"
        self.layout = Layout(directory)
        self.store: ImageStore = LayoutImages(self.layout)

    def put(self, *tags: str, age_days: int = 0) -> Digest:
        layer = b"".join(write_tar([File.of("content", f"{tags} {age_days}".encode())]))
        created = (START - timedelta(days=age_days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        config = canonical_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": created,
                "config": {"Labels": {"com.classifier.repository": self.repository}},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
                "history": [{"created": created, "created_by": "test"}],
            }
        )
        described = (Descriptor.of(layer, TAR),)
        manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=described).as_json()
        for content in (layer, config, manifest):
            self.layout.put(content)
        names = [f"{self.repository}/credit:{tag}" for tag in tags]
        self.layout.name(names, image := Descriptor.of(manifest, MANIFEST))
        return image.digest


class PodmanShelf(LayoutShelf):
    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        super().__init__(directory / "layout")
        self._archive = directory / "image.tar"
        self._engine = EngineProgram("podman", environment)
        self.store = EngineImages("podman", repository=self.repository, origin=None, environment=environment)

    def put(self, *tags: str, age_days: int = 0) -> Digest:
        digest = super().put(*tags, age_days=age_days)
        write_archive(self.layout, digest, [f"{self.repository}/credit:{tag}" for tag in tags], self._archive)
        self._engine.load(self._archive)
        return digest


@pytest.fixture(params=["memory", "layout", "podman"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "podman":
        return PodmanShelf(tmp_path, request.getfixturevalue("podman_environment"))
    return MemoryShelf() if request.param == "memory" else LayoutShelf(tmp_path)


def references(shelf: Shelf) -> list[tuple[str, ...]]:
    return [tuple(name.rpartition(":")[2] for name in record.references) for record in shelf.store.images()]


def test_images_are_listed_newest_first(shelf):
    """Each image stands there once, with all its names sorted, when it was created, its labels and its platform."""
    assert shelf.store.images() == ()
    old = shelf.put("v1", age_days=2)
    new = shelf.put("v2", "latest", age_days=1)
    one, other = shelf.store.images()
    assert [one.digest, other.digest] == [new, old]
    assert one.references == (f"{shelf.repository}/credit:latest", f"{shelf.repository}/credit:v2")
    assert (one.created, one.platform) == (START - timedelta(days=1), "linux/amd64")
    assert one.labels["com.classifier.repository"] == shelf.repository
    assert one.size_bytes > 0


def test_a_name_that_moved_lists_its_new_image(shelf):
    """The former image keeps its other names; one whose last name moved is listed no more."""
    shelf.put("v1", "latest", age_days=3)
    shelf.put("latest", age_days=2)
    assert references(shelf) == [("latest",), ("v1",)]
    shelf.put("latest", "v3", age_days=1)
    assert references(shelf) == [("latest", "v3"), ("v1",)]


def test_a_removed_image_is_gone_with_all_its_names(shelf):
    """Other images stay; removing it again, or one that never was, is no error."""
    kept, gone = shelf.put("v1", age_days=2), shelf.put("v2", "latest", age_days=1)
    for digest in (gone, gone, Digest("sha256:" + "0" * 64)):
        shelf.store.remove(digest)
    assert [record.digest for record in shelf.store.images()] == [kept]


def test_a_removed_image_can_come_back(shelf):
    """What was removed and put again is listed as before."""
    first = shelf.put("v1")
    before = shelf.store.images()
    shelf.store.remove(first)
    assert shelf.put("v1") == first
    assert shelf.store.images() == before
