"""Images as one file, and as a store lists them."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mendel.adapters.oci.layout.layout import Layout, verify_blob
from mendel.adapters.oci.layout.layout_images import LayoutImages
from mendel.errors import BuildRefused, DigestMismatch, ImageNotFound
from mendel.images import ImageRecord, ignore_progress
from mendel.images.image_archives import write_archive
from mendel.images.manifests import MANIFEST, Descriptor
from mendel.values import EPOCH, Digest

REFERENCES = ("risk/credit:v1.0.0", "risk/credit:latest")


def test_an_archive_is_the_same_twice_and_both_kinds_in_one(workshop: Any, tmp_path: Path) -> None:
    """Equal images give equal files, an OCI layout and docker's ``manifest.json`` over the same blobs."""
    image = workshop.build()
    for name in ("a.tar", "b.tar"):
        write_archive(workshop.layout, image.digest, REFERENCES, tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        names = archive.getnames()
        saved = json.load(archive.extractfile("manifest.json"))
        index = json.load(archive.extractfile("index.json"))
    assert "oci-layout" in names
    assert saved[0]["RepoTags"] == sorted(REFERENCES)
    assert {saved[0]["Config"], *saved[0]["Layers"]} < set(names)
    assert {entry["digest"] for entry in index["manifests"]} == {image.digest}
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "docker.io/risk/credit:latest"


@pytest.mark.parametrize("transport", ["oci-archive:{}:risk/credit:v1.0.0", "docker-archive:{}:risk/credit:v1.0.0"])
def test_skopeo_reads_an_archive_either_way(
    need: Callable[..., None], workshop: Any, tmp_path: Path, transport: str
) -> None:
    """Both transports of skopeo find the image, its labels and every layer."""
    need("skopeo", root=False)
    image = workshop.build()
    write_archive(workshop.layout, image.digest, REFERENCES, tmp_path / "image.tar")
    command = ["skopeo", "inspect", transport.format(tmp_path / "image.tar")]
    seen = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert seen["Labels"]["com.classifier.name"] == "credit"
    assert len(seen["Layers"]) == len(image.layers)


def test_no_half_archive_appears(workshop: Any, tmp_path: Path) -> None:
    """A damaged or missing blob stops the writing, and no file is there."""
    image = workshop.build()
    code = workshop.layout.path(image.layers[-1].digest)
    content = bytearray(code.read_bytes())
    code.unlink()
    with pytest.raises(ImageNotFound):
        write_archive(workshop.layout, image.digest, REFERENCES, tmp_path / "out" / "x.tar")
    content[-1] ^= 1
    code.write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(DigestMismatch):
        write_archive(workshop.layout, image.digest, REFERENCES, tmp_path / "out" / "x.tar")
    assert list((tmp_path / "out").iterdir()) == []


def test_images_are_listed_newest_first_with_their_names(workshop: Any) -> None:
    """Each image once, with every name, its labels, platform and size; attached documents are no images."""
    store = LayoutImages(workshop.layout)
    assert store.images() == ()
    plan = workshop.plan()
    old = workshop.build(plan)
    new = workshop.build(replace(plan, created=plan.created + timedelta(days=1), tags=("v1.1.0",)))
    subject = Descriptor(media_type=MANIFEST, digest=new.digest, size=1)
    workshop.layout.attach(subject, b"{}", artifact_type="application/vnd.cyclonedx+json")
    listed = store.images()
    assert [record.digest for record in listed] == [new.digest, old.digest]
    assert listed[1].references == ("risk/credit:latest", "risk/credit:v1.0.0")
    assert listed[1].labels["com.classifier.name"] == "credit"
    assert (listed[1].created, listed[1].platform) == (plan.created, "linux/amd64")
    assert listed[1].size_bytes > sum(layer.size_bytes for layer in old.layers)


def test_a_removed_image_takes_its_attachments_along(workshop: Any) -> None:
    """Names, documents and blobs go; removing what is not there is fine."""
    image = workshop.build()
    store = LayoutImages(workshop.layout)
    subject = Descriptor(media_type=MANIFEST, digest=image.digest, size=1)
    workshop.layout.attach(subject, b"{}", artifact_type="application/vnd.cyclonedx+json")
    store.remove(Digest("sha256:" + "1" * 64))
    assert len(store.images()) == 1
    store.remove(image.digest)
    assert store.images() == ()
    assert list((workshop.layout.directory / "blobs/sha256").iterdir()) == []


def test_a_damaged_blob_of_a_layout_is_mended_by_building_again(workshop: Any) -> None:
    """A document or layer that lost its end does not stay lost: the next build puts it right."""
    image = workshop.build()
    for digest in (image.digest, image.image_id, image.layers[-1].digest):
        path = workshop.layout.path(digest)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:-1])
    assert workshop.build().digest == image.digest
    assert len(LayoutImages(workshop.layout).images()) == 1
    for digest in (image.digest, image.image_id, image.layers[-1].digest):
        verify_blob(workshop.layout, digest)


def test_documents_of_images_without_a_name_go_when_nobody_builds(workshop: Any) -> None:
    """What was attached to an image whose names all moved on is no orphan for ever; a build's own is left alone."""
    plan = workshop.plan()
    former = workshop.build(plan)
    attached = workshop.layout.attach(
        Descriptor(media_type=MANIFEST, digest=former.digest, size=1), b"{}", artifact_type="application/x+json"
    )
    with workshop.layout.growing():
        current = workshop.build(replace(plan, manifest=b"other"))
        workshop.layout.remove(Digest("sha256:" + "1" * 64))
        assert workshop.layout.attachments(former.digest) == (attached,)
    workshop.layout.remove(Digest("sha256:" + "1" * 64))
    assert workshop.layout.attachments(former.digest) == ()
    assert not workshop.layout.has(former.digest)
    assert workshop.layout.has(current.digest)


def spoil(layout: Layout, digest: Digest) -> None:
    """Write over the blob with the same length, without touching what it is linked to."""
    path = layout.path(digest)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(b"x" + content[1:])


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_damaged_image_is_listed_and_can_be_removed(workshop: Any, *, is_gone: bool) -> None:
    """Its names stand last, without size and labels; other images are listed and removed as ever."""
    plan = workshop.plan()
    damaged = workshop.build(plan)
    whole, third = (workshop.build(replace(plan, tags=(tag,), manifest=tag.encode())) for tag in ("v2.0.0", "v3.0.0"))
    if is_gone:
        workshop.layout.path(damaged.digest).unlink()
    else:
        spoil(workshop.layout, damaged.digest)
    store = LayoutImages(workshop.layout)
    *_, last = store.images()
    assert last == ImageRecord(digest=damaged.digest, references=plan.references, created=EPOCH, size_bytes=0)
    store.remove(third.digest)
    store.remove(damaged.digest)
    assert [record.digest for record in store.images()] == [whole.digest]
    verify_blob(workshop.layout, whole.layers[-1].digest)


def test_a_damaged_attachment_counts_as_absent(workshop: Any) -> None:
    """It is not listed, attaching again mends it, and one whose document is gone is absent too."""
    image = workshop.build()
    subject = Descriptor(media_type=MANIFEST, digest=image.digest, size=1)

    def attach() -> Descriptor:
        return workshop.layout.attach(subject, b"[1]", artifact_type="application/x+json")

    attached = attach()
    spoil(workshop.layout, attached.digest)
    assert workshop.layout.attachments(image.digest) == ()
    assert attach() == attached
    assert workshop.layout.attachments(image.digest) == (attached,)
    (document,) = workshop.layout.manifest(attached.digest).layers
    workshop.layout.path(document.digest).unlink()
    assert workshop.layout.attachments(image.digest) == ()
    attach()
    assert workshop.layout.attachments(image.digest) == (attached,)
    workshop.layout.path(attached.digest).unlink()
    workshop.layout.remove(image.digest)
    assert workshop.layout.entries() == ()


def test_images_of_one_commit_are_listed_as_they_were_built(workshop: Any) -> None:
    """Of equal age the one built last stands first, whatever its name; building one again brings it to the front."""
    plans = [replace(workshop.plan(), tags=(tag,), manifest=tag.encode()) for tag in ("b", "a", "c")]
    built = [workshop.build(plan).digest for plan in plans]
    store = LayoutImages(workshop.layout)
    assert [record.digest for record in store.images()] == built[::-1]
    workshop.build(plans[1])
    assert [record.digest for record in store.images()] == [built[1], built[2], built[0]]


def blobs_of(layout: Layout) -> set[str]:
    return {path.name for path in (layout.directory / "blobs/sha256").iterdir()}


def test_an_image_whose_names_moved_on_is_freed_by_the_build_that_moved_them(workshop: Any) -> None:
    """Its blobs and its documents go, those that the new image shares stay whole."""
    plan = workshop.plan()
    former = workshop.build(plan)
    workshop.layout.attach(
        Descriptor(media_type=MANIFEST, digest=former.digest, size=1), b"{1}", artifact_type="application/x+json"
    )
    current = workshop.build(replace(plan, manifest=b"other"))
    manifest = workshop.layout.manifest(current.digest)
    needed = {current.digest, *(blob.digest for blob in (manifest.config, *manifest.layers))}
    assert blobs_of(workshop.layout) == {digest.hex for digest in needed}
    assert len(workshop.layout.entries()) == len(plan.references)


def test_a_build_that_fails_leaves_no_blobs(workshop: Any) -> None:
    """Neither a build that ended midway, nor one whose image was never named, keeps anything in the layout."""
    plan = workshop.plan()
    engine = workshop.engine()
    (workshop.project / "model.py").unlink()
    with pytest.raises(BuildRefused):
        engine.build(plan, use_cache=True, on_progress=ignore_progress)
    assert blobs_of(workshop.layout)
    engine.close()
    assert blobs_of(workshop.layout) == set()
    engine = workshop.engine()
    engine.build(replace(plan, code=()), use_cache=True, on_progress=ignore_progress)
    assert blobs_of(workshop.layout)
    engine.close()
    assert blobs_of(workshop.layout) == set()


def test_collecting_waits_for_builds_of_others(workshop: Any) -> None:
    """What another engine has built and not named yet survives a build that moves names, and can be named."""
    plan = workshop.plan()
    workshop.build(plan)
    other, later = workshop.engine(), replace(plan, manifest=b"later", tags=("v2.0.0",))
    image = other.build(later, use_cache=True, on_progress=ignore_progress)
    workshop.build(replace(plan, manifest=b"other"))
    other.commit(later, image)
    for digest in (image.digest, image.image_id, *(layer.digest for layer in image.layers)):
        verify_blob(workshop.layout, digest)
    assert len(LayoutImages(workshop.layout).images()) == 2


def test_a_build_that_moves_no_name_collects_nothing(workshop: Any) -> None:
    """Building again what is there does not look through the layout."""
    workshop.build()
    stray = workshop.layout.put(b"stray")
    workshop.build()
    assert workshop.layout.has(stray)
    workshop.layout.collect()
    assert not workshop.layout.has(stray)


def test_collecting_where_nothing_is_makes_nothing(tmp_path: Path) -> None:
    """A layout that was never written stays away."""
    Layout(tmp_path / "none").collect()
    assert list(tmp_path.iterdir()) == []
