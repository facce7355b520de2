"""Real bases: made from Debian packages, pushed to a real registry, saved by real tools, and found again."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mendel.adapters.oci.base_images import BaseImages
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.pull import RegistryImages
from mendel.adapters.oci.registry.push import publish
from mendel.errors import RegistryUnavailable
from mendel.images import Platform
from mendel.images.manifests import CONFIG, LAYER, MANIFEST, Descriptor, Manifest, canonical_json

AMD = Platform.parse("linux/amd64")


@pytest.fixture(scope="module")
def base(debian_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A layout that holds Debian's Python as ``base:1``."""
    layout = Layout(tmp_path_factory.mktemp("base"))
    tar = debian_rootfs.read_bytes()
    layer = gzip.compress(tar, 1, mtime=0)
    diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    config = canonical_json(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    )
    layers = (Descriptor.of(layer, LAYER),)
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=layers).as_json()
    for content in (layer, config, manifest):
        layout.put(content)
    layout.name(["base:1"], Descriptor.of(manifest, MANIFEST))
    return layout


def test_debian_s_python_is_found_inside(base: Layout, tmp_path: Path) -> None:
    """The interpreter and the C library of a real Debian are read from its layer."""
    pin = BaseImages(cache=Layout(tmp_path / "cache"), root=tmp_path).pin(f"oci:{base.directory}", AMD)
    assert (pin.interpreter, pin.python, pin.glibc) == ("/usr/bin/python3.11", "3.11", "2.36")


@pytest.mark.parametrize(("kind", "own_digest"), [("oci-archive", True), ("docker-archive", False)])
def test_archives_of_other_tools(
    base: Layout, tmp_path: Path, need: Callable[..., None], kind: str, *, own_digest: bool
) -> None:
    """Archives that skopeo writes are read; a saved layout keeps its digest, docker's form gets a digest of its own."""
    need("skopeo", root=False)
    file = tmp_path / "base.tar"
    target = f"{kind}:{file}:base:1" if own_digest else f"{kind}:{file}:localhost/base:1"
    command = ["skopeo", "copy", "--quiet", f"oci:{base.directory}:base:1", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    pins = [
        BaseImages(cache=Layout(tmp_path / cache), root=tmp_path).pin("oci-archive:base.tar", AMD)
        for cache in ("one", "two")
    ]
    assert pins[0] == pins[1]
    assert pins[0].glibc == "2.36"
    assert (pins[0].digest == base.entries()[0].digest) is own_digest


def test_a_base_of_a_registry_is_pulled_once(base: Layout, secure_registry: Any, tmp_path: Path) -> None:
    """A base is pulled from a registry with TLS and a password; after that its digest is enough, registry or not."""
    name = f"{secure_registry.host}/bases/python:1"
    with secure_registry.client() as registries:
        publish(base, base.entries()[0], [name], registries=registries)
    cache = Layout(tmp_path / "cache")
    bases = BaseImages(cache=cache, remote=RegistryImages(secure_registry.client), root=tmp_path)
    pin = bases.pin(name, AMD)
    assert (pin.digest, pin.glibc) == (base.entries()[0].digest, "2.36")
    offline = BaseImages(cache=cache, root=tmp_path)
    loaded = offline.load(pin, AMD)
    assert all(loaded.blobs.path(layer.digest).is_file() for layer in loaded.manifest.layers)
    with pytest.raises(RegistryUnavailable, match="offline"):
        offline.pin(name, AMD)
