"""The image of a version, looked up in a real registry."""

from __future__ import annotations

import pytest

from mendel.app.images.image_resolution import find_image
from mendel.errors import ImageNotFound
from mendel.images.manifests import CONFIG, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.values import Digest

RELEASE = "credit-v1.0.0-mlserver-762e7f2"


@pytest.fixture
def pushed(docker_registry, tmp_path, monkeypatch):
    """An image in a registry: its name there, and its digest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MENDEL_REGISTRY_INSECURE", docker_registry.host)
    config = tmp_path / "config"
    config.write_bytes(canonical_json({"config": {"Labels": {"com.classifier.git_tag": RELEASE}}}))
    blob = Descriptor.of(config.read_bytes(), CONFIG)
    manifest = Manifest(config=blob, layers=()).as_json()
    with docker_registry.client() as registries:
        registry = registries.at(docker_registry.host)
        registry.upload("risk/credit", config, blob, on_sent=lambda _: None)
        registry.put_document("risk/credit", "v1.0.0", manifest, MANIFEST)
    return f"{docker_registry.host}/risk/credit", Descriptor.of(manifest, MANIFEST).digest


def test_an_image_is_read_in_its_registry(pushed):
    """By tag and by digest, the registry tells the digest and the labels the release."""
    name, digest = pushed
    for text in (f"{name}:v1.0.0", f"{name}@{digest}"):
        found = find_image(text)
        assert (found.seen, found.image.digest, found.image.release_tag) == (True, digest, RELEASE)


def test_an_image_that_is_not_there_is_refused(pushed):
    """A registry that answers and has no such image is believed, also about a digest."""
    name, _ = pushed
    with pytest.raises(ImageNotFound):
        find_image(f"{name}:v2.0.0")
    with pytest.raises(ImageNotFound):
        find_image(f"{name}@{Digest(f'sha256:{9:064x}')}")
