"""Pushing to and pulling from a real registry: docker-registry, open and behind TLS and a password."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.credentials import Login
from mendel.adapters.oci.registry.pull import pull
from mendel.adapters.oci.registry.push import (
    list_tags,
    publish,
    read_attachment,
    remote_attachments,
    without_older_latest,
)
from mendel.errors import AlreadyExists, ImageNotFound, RegistryUnavailable, Unauthenticated
from mendel.images import Platform, ignore_progress
from mendel.images.manifests import CONFIG, LAYER, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.images.references import ImageReference

AMD = Platform.parse("linux/amd64")


def image_in(layout: Layout, *layers: bytes) -> Descriptor:
    """An image whose layers are these bytes; a registry does not look inside."""
    config = canonical_json({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}})
    described = tuple(Descriptor.of(layer, LAYER) for layer in layers)
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=described).as_json()
    for content in (*layers, config, manifest):
        layout.put(content)
    return Descriptor.of(manifest, MANIFEST)


def skopeo(running: Any, reference: str, tmp_path: Path) -> dict[str, Any]:
    """What skopeo says of an image."""
    certificates = tmp_path / "certificates"
    certificates.mkdir(exist_ok=True)
    command = ["skopeo", "inspect", "--no-tags", f"docker://{reference}"]
    if running.ca is None:
        command.insert(2, "--tls-verify=false")
    else:
        (certificates / "ca.crt").write_bytes(running.ca.read_bytes())
        command[2:2] = ["--cert-dir", str(certificates), "--creds", f"{running.login.user}:{running.login.password}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=["docker_registry", "secure_registry"])
def running(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


def test_what_was_pushed_is_what_was_built(
    running: Any, layout: Layout, tmp_path: Path, need: Callable[..., None]
) -> None:
    """Every tag means the digest of the layout, for skopeo too, and comes back byte for byte."""
    need("skopeo", root=False)
    image = image_in(layout, os.urandom(1000), os.urandom(2000))
    names = [f"{running.host}/risk/credit:{tag}" for tag in ("latest", "v1.0.0", "v1.0.0-abcdef1")]
    with running.client() as registries:
        published = publish(layout, image, names, registries=registries)
        back = Layout(tmp_path / "back")
        reference = ImageReference.parse(f"{running.host}/risk/credit@{image.digest}")
        assert pull(registries, reference, AMD, back, on_progress=ignore_progress) == image
        assert list_tags(registries, f"{running.host}/risk/credit") == ("latest", "v1.0.0", "v1.0.0-abcdef1")
    assert back.read(image.digest) == layout.read(image.digest)
    assert published.pushed_bytes > 3000
    for name in names:
        assert skopeo(running, name, tmp_path)["Digest"] == image.digest


@pytest.mark.race
def test_a_second_push_pushes_nothing(running: Any, layout: Layout) -> None:
    """What is there is not sent again, and after a code change only what changed is, in well under a second."""
    dependencies, code = os.urandom(4 << 20), os.urandom(5000)
    image = image_in(layout, dependencies, code)
    with running.client() as registries:
        publish(layout, image, [f"{running.host}/a/b:v1.0.0"], registries=registries)
        again = publish(layout, image, [f"{running.host}/a/b:v1.0.0"], registries=registries)
        assert (again.pushed_bytes, again.mounted, again.skipped) == (0, 0, 3)
    changed = image_in(layout, dependencies, b"changed" + code)
    started = time.monotonic()
    with running.client() as registries:
        push = publish(
            layout, changed, [f"{running.host}/a/b:v1.0.1", f"{running.host}/a/b:latest"], registries=registries
        )
    assert push.pushed_bytes == len(code) + 7
    assert time.monotonic() - started < 1


def test_latest_stays_at_the_newest_release(docker_registry: Any, layout: Layout) -> None:
    """An older release and an untagged image leave ``latest`` alone; the newest release takes it."""
    place, made = f"{docker_registry.host}/risk/old", image_in(layout, b"any")
    with docker_registry.client() as registries:

        def wanted(*tags: str) -> tuple[str, ...]:
            kept = without_older_latest([f"{place}:{tag}" for tag in tags], registries)
            return tuple(name.rpartition(":")[2] for name in kept)

        assert wanted("latest", "v1.9.0") == ("latest", "v1.9.0")
        publish(
            layout, made, [f"{place}:{tag}" for tag in ("v1.10.0", "v1.10.0-abcdef1", "latest")], registries=registries
        )
        assert wanted("latest", "v1.9.0", "v1.9.0-abcdef1") == ("v1.9.0", "v1.9.0-abcdef1")
        assert wanted("latest", "untagged") == ("untagged",)
        assert wanted("latest", "v1.10.0") == ("latest", "v1.10.0")
        assert wanted("latest", "v2.0.0") == ("latest", "v2.0.0")


def test_a_version_tag_does_not_move(docker_registry: Any, layout: Layout) -> None:
    """Version tags that mean another image are all named before anything is pushed; ``latest`` and force may move."""
    host = docker_registry.host
    first, second = image_in(layout, b"first"), image_in(layout, b"second")
    names = [f"{host}/a/b:{tag}" for tag in ("latest", "untagged", "v1.0.0", "v1.0.0-abcdef1")]
    with docker_registry.client() as registries:
        publish(layout, first, names, registries=registries)
        with pytest.raises(AlreadyExists, match=r"v1\.0\.0 is .*v1\.0\.0-abcdef1 is") as refused:
            publish(layout, second, names, registries=registries)
        assert "latest" not in refused.value.message
        registry = registries.at(host)
        assert registry.resolve("a/b", second.digest) is None
        publish(layout, second, names[:2], registries=registries)
        assert registry.resolve("a/b", "latest") == second.digest
        assert registry.resolve("a/b", "v1.0.0") == first.digest
        publish(layout, second, names, registries=registries, force=True)
        assert registry.resolve("a/b", "v1.0.0") == second.digest


def test_attachments_travel_and_others_entries_stay(docker_registry: Any, layout: Layout, tmp_path: Path) -> None:
    """What is attached is listed under the fallback tag beside what others attached, and the tag is not shown."""
    image = image_in(layout, b"layer")
    layout.name([f"{docker_registry.host}/a/b:v1.0.0"], image)
    other = Layout(tmp_path / "other")
    assert image_in(other, b"layer") == image
    layout.attach(image, b'{"bom":1}', artifact_type="application/vnd.cyclonedx+json")
    other.attach(image, b'{"sig":1}', artifact_type="application/vnd.dev.sigstore.bundle.v0.3+json")
    repository = f"{docker_registry.host}/a/b"
    with docker_registry.client() as registries:
        for each in (layout, other, layout):
            publish(each, image, [f"{repository}:v1.0.0"], registries=registries)
        found = remote_attachments(registries, repository, image.digest)
        contents = [read_attachment(registries, repository, one) for one in found]
        assert list_tags(registries, repository) == ("v1.0.0",)
        assert list_tags(registries, f"{docker_registry.host}/no/such") == ()
    assert contents == [b'{"bom":1}', b'{"sig":1}']


def test_layers_of_the_base_are_mounted(docker_registry: Any, layout: Layout) -> None:
    """Layers that a sibling repository has are taken over by the registry, not sent."""
    base_layer = os.urandom(1 << 20)
    base, image = image_in(layout, base_layer), image_in(layout, base_layer, b"code")
    host = docker_registry.host
    with docker_registry.client() as registries:
        publish(layout, base, [f"{host}/bases/python:1"], registries=registries)
        mounts = ["docker.io/library/python:3", f"{host}/bases/python:1"]
        push = publish(layout, image, [f"{host}/a/b:v1.0.0"], registries=registries, mount_from=mounts)
    assert push.mounted == 2  # the layer and the equal configuration
    assert push.pushed_bytes == len(b"code")


def test_large_blobs_go_in_chunks(running: Any, layout: Layout, tmp_path: Path) -> None:
    """A blob above the chunk size is sent piece by piece, and is the same there."""
    image = image_in(layout, os.urandom(5 << 20))
    with running.client(chunk_bytes=1 << 20) as registries:
        publish(layout, image, [f"{running.host}/a/b:v1"], registries=registries)
        reference = ImageReference.parse(f"{running.host}/a/b:v1")
        assert pull(registries, reference, AMD, Layout(tmp_path / "b"), on_progress=ignore_progress) == image


def test_strangers_are_told_what_is_wrong(secure_registry: Any, layout: Layout) -> None:
    """Without a password, with a wrong one and without the authority's certificate there is one clear sentence each."""
    image = image_in(layout, b"layer")
    names = [f"{secure_registry.host}/a/b:v1"]
    for running, error, happened in (
        (replace(secure_registry, login=None), Unauthenticated, r"requires a login.*docker login"),
        (
            replace(secure_registry, login=Login(user="mendel", password="wrong-secret")),
            Unauthenticated,
            "rejected the user name and password",
        ),
        (replace(secure_registry, ca=None), RegistryUnavailable, r"certificate of .* is not trusted.*SSL_CERT_FILE"),
    ):
        with running.client() as registries, pytest.raises(error, match=happened) as refused:
            publish(layout, image, names, registries=registries)
        assert "wrong-secret" not in str(refused.value)


def test_what_is_not_there_is_said(docker_registry: Any, layout: Layout) -> None:
    """A name or a platform that the registry lacks is an ImageNotFound that names it."""
    with docker_registry.client() as registries:
        reference = ImageReference.parse(f"{docker_registry.host}/a/b:v9")
        with pytest.raises(ImageNotFound, match="no image a/b with tag or digest v9"):
            pull(registries, reference, AMD, layout, on_progress=ignore_progress)


PUSH = """
import random, sys, time
from pathlib import Path
from mendel.adapters.oci.registry.session import RegistrySettings
from mendel.adapters.oci.registry.credentials import Keychain
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.push import publish
from mendel.adapters.oci.registry.client import RegistryClients
layout, host = Layout(Path(sys.argv[1])), sys.argv[2]
chance = random.Random(0)
with RegistryClients(keychain=Keychain(), settings=RegistrySettings(), sleep=time.sleep, rng=chance) as registries:
    for image in layout.named():
        publish(layout, image, [image.annotations["org.opencontainers.image.ref.name"]], registries=registries)
"""


def test_two_processes_push_at_once(docker_registry: Any, layout: Layout) -> None:
    """Two processes that push the same images at the same time both end well, and every tag is whole."""
    host = docker_registry.host
    shared = os.urandom(2 << 20)
    images = [image_in(layout, shared, f"code {number}".encode()) for number in range(4)]
    for number, image in enumerate(images):
        layout.name([f"{host}/a/b:v1.0.{number}"], image)
        layout.attach(image, f"bom {number}".encode(), artifact_type="application/vnd.cyclonedx+json")
    command = [sys.executable, "-c", PUSH, str(layout.directory), host]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    with docker_registry.client() as registries:
        for number, image in enumerate(images):
            assert registries.at(host).resolve("a/b", f"v1.0.{number}") == image.digest
            assert len(remote_attachments(registries, f"{host}/a/b", image.digest)) == 1
