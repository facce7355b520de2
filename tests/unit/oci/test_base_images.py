"""Base images from layouts and archives: found, pinned, looked into, kept."""

from __future__ import annotations

import errno
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from mendel.adapters.oci.base_images import BaseImages
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.sandbox.base_inspection import FileTree, look_inside
from mendel.errors import (
    BuildRefused,
    Corrupt,
    DigestMismatch,
    ImageNotFound,
    InvalidValue,
    RegistryUnavailable,
    StoreUnavailable,
)
from mendel.images import Interpreter, OnProgress, Platform
from mendel.images.manifests import CONFIG, INDEX, LAYER, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.images.references import ImageReference

AMD = Platform.parse("linux/amd64")
ARM = Platform.parse("linux/arm64")
GLIBC = b"\x7fELF...GNU C Library (Debian GLIBC 2.36-9+deb12u4) stable release version 2.36.\n\0"
DEBIAN: dict[str, bytes | str | None] = {
    "usr/": None,
    "lib": "usr/lib",
    "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
    "usr/bin/python3.11": b"elf",
    "usr/bin/python3": "python3.11",
}


def tar_of(entries: Mapping[str, bytes | str | None]) -> bytes:
    """A tar: bytes are files, text is a link's target, None a directory; ``=name`` is a hard link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                entry.linkname = content.removeprefix("=")
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return packed.getvalue()


def image_in(
    layout: Layout,
    *layers: Mapping[str, bytes | str | None],
    platform: Platform = AMD,
    names: tuple[str, ...] = ("base:1",),
    path: str = "/usr/local/bin:/usr/bin",
) -> Descriptor:
    """An image of these layers."""
    packed = [gzip.compress(tar_of(layer), mtime=0) for layer in layers]
    settings = {"Env": [f"PATH={path}"]}
    config = canonical_json({"os": platform.os, "architecture": platform.architecture, "config": settings})
    described = tuple(Descriptor.of(layer, LAYER) for layer in packed)
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=described).as_json()
    for content in (*packed, config, manifest):
        layout.put(content)
    image = Descriptor.of(manifest, MANIFEST)
    layout.name(names, image)
    return image


def merged(*layers: Mapping[str, bytes | str | None]) -> FileTree:
    tree = FileTree()
    for layer in layers:
        tree.add_layer(io.BytesIO(tar_of(layer)))
    return tree


@pytest.fixture
def bases(tmp_path: Path) -> BaseImages:
    return BaseImages(cache=Layout(tmp_path / "cache"), root=tmp_path)


class Recorded:
    """A registry with one image, which counts what it is asked."""

    def __init__(self, source: Layout, image: Descriptor) -> None:
        self.source, self.image, self.asked = source, image, list[str]()

    def pull(
        self, reference: ImageReference, platform: Platform, into: Layout, *, on_progress: OnProgress
    ) -> Descriptor:
        self.asked.append(str(reference))
        manifest = self.source.manifest(self.image.digest)
        for part in (*manifest.layers, manifest.config, self.image):
            into.put(self.source.read(part.digest))
        return self.image


def test_a_layout_is_pinned_and_loaded(bases: BaseImages, tmp_path: Path) -> None:
    """A base in a layout gives its digest, interpreter and C library, and then all its blobs from the cache."""
    image = image_in(Layout(tmp_path / "base"), DEBIAN)
    pin = bases.pin("oci:base", AMD)
    assert (pin.digest, pin.python, pin.interpreter, pin.glibc) == (image.digest, "3.11", "/usr/bin/python3.11", "2.36")
    shutil.rmtree(tmp_path / "base")
    loaded = bases.load(pin, AMD)
    assert loaded.config["architecture"] == "amd64"
    assert all(loaded.blobs.path(layer.digest).is_file() for layer in loaded.manifest.layers)


@pytest.mark.parametrize("suffix", ["", ":base:1", ":1"])
def test_a_layout_s_image_is_named_whole_or_by_its_tag(bases: BaseImages, tmp_path: Path, suffix: str) -> None:
    """The name behind the directory is the whole name or the tag; without one, the only image is meant."""
    image = image_in(Layout(tmp_path / "b:1"), DEBIAN)
    assert bases.pin(f"oci:b:1{suffix}", AMD).digest == image.digest


def test_several_images_need_a_name(bases: BaseImages, tmp_path: Path) -> None:
    """A layout of several images is refused without a name, and the names are listed."""
    image_in(Layout(tmp_path / "base"), DEBIAN, names=("one",))
    image_in(Layout(tmp_path / "base"), DEBIAN, {"x": b"y"}, names=("two",))
    with pytest.raises(ImageNotFound, match="one, two"):
        bases.pin("oci:base", AMD)


def test_an_index_gives_each_platform_its_image(bases: BaseImages, tmp_path: Path) -> None:
    """Of an index the platform's manifest is chosen; a platform that it lacks is refused."""
    layout = Layout(tmp_path / "base")
    image = image_in(layout, DEBIAN)
    entry = image.as_tree() | {"platform": {"os": "linux", "architecture": "amd64"}}
    index = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    layout.put(index)
    layout.name(["all"], Descriptor.of(index, INDEX))
    assert bases.pin("oci:base:all", AMD).digest == image.digest
    with pytest.raises(ImageNotFound, match="no image for the platform linux/arm64"):
        bases.pin("oci:base:all", ARM)


def test_another_platform_is_refused(bases: BaseImages, tmp_path: Path) -> None:
    """An image without an index is believed what its configuration says it runs on."""
    image_in(Layout(tmp_path / "base"), DEBIAN)
    with pytest.raises(ImageNotFound, match="is for the platform linux/amd64, not for linux/arm64"):
        bases.pin("oci:base", ARM)


def test_nothing_there_is_named(bases: BaseImages) -> None:
    """A layout or archive that is missing is named in the refusal."""
    with pytest.raises(ImageNotFound, match="nowhere"):
        bases.pin("oci:nowhere", AMD)
    with pytest.raises(ImageNotFound, match=r"nowhere\.tar"):
        bases.pin("oci-archive:nowhere.tar", AMD)


def test_other_transports_are_no_names_of_docker_s(bases: BaseImages) -> None:
    """What skopeo calls a transport and Mendel does not read is refused, and not looked for in docker.io."""
    with pytest.raises(InvalidValue, match="oci-archive:FILE"):
        bases.pin("docker-archive:base.tar", AMD)


def test_a_damaged_blob_is_found(bases: BaseImages, tmp_path: Path) -> None:
    """A layer whose bytes changed on disk is refused before it enters the cache."""
    layout = Layout(tmp_path / "base")
    image = image_in(layout, DEBIAN)
    layer = layout.path(layout.manifest(image.digest).layers[0].digest)
    layer.write_bytes(layer.read_bytes() + b"!")
    with pytest.raises(DigestMismatch):
        bases.pin("oci:base", AMD)


def test_a_base_that_moved_is_found_in_a_local_layout(tmp_path: Path) -> None:
    """What a lock pins is found by digest in any given layout, wherever its reference points now."""
    image = image_in(Layout(tmp_path / "base"), DEBIAN)
    first = BaseImages(cache=Layout(tmp_path / "one"), root=tmp_path)
    pin = first.pin("oci:base", AMD)
    shutil.move(tmp_path / "base", tmp_path / "elsewhere")
    image_in(Layout(tmp_path / "base"), DEBIAN, {"new": b""})
    with pytest.raises(ImageNotFound, match=r"the pinned .* is not available"):
        BaseImages(cache=Layout(tmp_path / "two"), root=tmp_path).load(pin, AMD)
    local = (Layout(tmp_path / "elsewhere"),)
    found = BaseImages(cache=Layout(tmp_path / "three"), root=tmp_path, local=local).load(pin, AMD)
    assert found.descriptor.digest == image.digest


def test_a_pinned_reference_asks_nothing_of_the_network(tmp_path: Path) -> None:
    """A base of a registry is asked for once; with its digest in the reference, never again."""
    source = Layout(tmp_path / "remote")
    image = image_in(source, DEBIAN)
    remote = Recorded(source, image)
    online = BaseImages(cache=Layout(tmp_path / "cache"), remote=remote, root=tmp_path)
    pin = online.pin("python:3.11-slim", AMD)
    online.load(pin, AMD)
    assert remote.asked == ["docker.io/library/python:3.11-slim"]
    online.pin(f"python:3.11-slim@{pin.digest}", AMD)
    assert len(remote.asked) == 1
    offline = BaseImages(cache=Layout(tmp_path / "cache"), root=tmp_path)
    assert offline.load(pin, AMD).descriptor.digest == image.digest
    with pytest.raises(RegistryUnavailable, match=f"offline.*python@{pin.digest} is on this machine"):
        offline.pin("python:3.11-slim", AMD)


def test_a_hole_in_the_cache_is_filled(tmp_path: Path) -> None:
    """A base of which a blob vanished from the cache is pulled again by its digest."""
    source, cache = Layout(tmp_path / "remote"), Layout(tmp_path / "cache")
    image = image_in(source, DEBIAN)
    remote = Recorded(source, image)
    bases = BaseImages(cache=cache, remote=remote, root=tmp_path)
    pin = bases.pin("ghcr.io/acme/base:1", AMD)
    cache.path(cache.manifest(image.digest).layers[0].digest).unlink()
    bases.load(pin, AMD)
    assert remote.asked[-1] == f"ghcr.io/acme/base@{image.digest}"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """A disk that fills up while a base is pulled is named, with what to do."""

    class Full(Recorded):
        def pull(self, *_: object, **__: object) -> Descriptor:
            raise OSError(errno.ENOSPC, "No space left on device")

    source = Layout(tmp_path / "remote")
    full = BaseImages(cache=Layout(tmp_path / "cache"), remote=Full(source, image_in(source, {})), root=tmp_path)
    with pytest.raises(StoreUnavailable, match="cache is full"):
        full.pin("python:3.11-slim", AMD)


def test_who_reaches_no_registry_is_told_of_a_base_without_one(tmp_path: Path) -> None:
    """Where a registry does not answer, the error says how a base is made without any."""

    class Silent(Recorded):
        def pull(self, *_: object, **__: object) -> Descriptor:
            raise RegistryUnavailable("The registry does not answer.", remedy="Try again.")

    source = Layout(tmp_path / "remote")
    alone = BaseImages(cache=Layout(tmp_path / "cache"), remote=Silent(source, image_in(source, {})), root=tmp_path)
    with pytest.raises(RegistryUnavailable, match="does not answer") as refused:
        alone.pin("python:3.11-slim", AMD)
    assert refused.value.remedy == (
        "Try again. If you have no image registry, make a base image from Debian packages with: mendel base"
    )


def test_an_archive_of_a_layout(bases: BaseImages, tmp_path: Path) -> None:
    """A layout in a tar is read as the layout itself, and gives the same digest."""
    image = image_in(Layout(tmp_path / "base"), DEBIAN)
    with tarfile.open(tmp_path / "base.tar", "w") as archive:
        archive.add(tmp_path / "base", arcname=".")
    assert bases.pin("oci-archive:base.tar", AMD).digest == image.digest
    assert not list((tmp_path / "cache").glob(".archive-*"))


def test_what_docker_save_writes(bases: BaseImages, tmp_path: Path) -> None:
    """An archive of docker's becomes an image whose layers are the saved tars, links between them followed."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {}}).encode()
    saved = json.dumps([{"Config": "c.json", "RepoTags": ["base:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}])
    entries = {"c.json": config, "a/layer.tar": tar_of(DEBIAN), "b/layer.tar": "../a/layer.tar"}
    (tmp_path / "saved.tar").write_bytes(tar_of(entries | {"manifest.json": saved.encode()}))
    pin = bases.pin("oci-archive:saved.tar", AMD)
    loaded = bases.load(pin, AMD)
    assert [layer.media_type for layer in loaded.manifest.layers] == ["application/vnd.oci.image.layer.v1.tar"] * 2
    assert pin.glibc == "2.36"
    (tmp_path / "broken.tar").write_bytes(tar_of({"manifest.json": saved.encode()}))
    with pytest.raises(Corrupt, match=r"refers to c\.json"):
        bases.pin("oci-archive:broken.tar", AMD)
    (tmp_path / "none.tar").write_bytes(tar_of({"x": b""}))
    with pytest.raises(ImageNotFound, match="docker save"):
        bases.pin("oci-archive:none.tar", AMD)
    (tmp_path / "text.tar").write_text("text")
    with pytest.raises(Corrupt, match="not a tar"):
        bases.pin("oci-archive:text.tar", AMD)


def test_the_path_decides_between_interpreters() -> None:
    """The first directory of PATH with a python3.N wins; in it, what ``python3`` means."""
    both = merged(DEBIAN, {"usr/local/bin/python3.12": b"", "usr/local/bin/python3.13": b"", "usr/bin/python3.9": b""})
    assert look_inside(both, {"PATH": "/usr/local/bin:/usr/bin"}).python == "3.13"
    assert look_inside(both, {"PATH": "/usr/bin"}).interpreter == "/usr/bin/python3.11"
    assert look_inside(both, {}).interpreter == "/usr/local/bin/python3.13"


def test_mendel_gets_a_newer_python_where_the_base_has_one() -> None:
    """The project has what ``python3`` means; if that is too old for Mendel, Mendel has the newest other one."""
    old = {"usr/local/bin/python3.9": b"", "usr/bin/python3.13": b""}
    found = look_inside(merged(DEBIAN, old), {})
    assert found.interpreter == "/usr/local/bin/python3.9"
    assert found.runtime == Interpreter(python="3.13", path="/usr/bin/python3.13")
    new = look_inside(merged(DEBIAN, {**old, "usr/local/bin/python3.12": b""}), {})
    assert (new.python, new.runtime) == ("3.12", None)


def test_the_top_layer_wins_and_whiteouts_take_away() -> None:
    """A whiteout hides what lower layers gave, not what its own layer gives; an opaque directory hides all below it."""
    hidden = merged(DEBIAN, {"usr/bin/.wh.python3.11": b"", "usr/bin/python3.12": b""})
    assert look_inside(hidden, {}).interpreter == "/usr/bin/python3.12"
    opaque = merged(DEBIAN, {"usr/bin/": None, "usr/bin/python3.10": b"", "usr/bin/.wh..wh..opq": b""})
    assert opaque.names("/usr/bin") == ("python3.10",)
    newer = merged(DEBIAN, {"lib/x86_64-linux-gnu/libc.so.6": GLIBC.replace(b"2.36.", b"2.41.")})
    assert look_inside(newer, {}).glibc == "2.41"
    gone = merged(DEBIAN, {"usr/.wh.bin": b""})
    with pytest.raises(BuildRefused, match=r"no python3\.N"):
        look_inside(gone, {})


def test_links_are_followed_and_circles_end() -> None:
    """Relative, absolute, upward and hard links lead where they do in a container; a circle leads nowhere."""
    tree = merged(
        {
            "a/b/file": b"",
            "abs": "/a/b",
            "up": "a/../a/b/file",
            "hard": "=a/b/file",
            "x": "y",
            "y": "x",
            "root": "../../a",
        }
    )
    assert tree.find("/abs/file") == tree.find("/up") == tree.find("/root/b/file") == "/a/b/file"
    assert tree.find("/hard") == "/hard"
    assert tree.find("/x") is None


def test_old_debian_names_its_library_by_version() -> None:
    """``libc.so.6`` may be a link to ``libc-2.31.so``, whose text counts."""
    old = {"lib/x86_64-linux-gnu/libc-2.31.so": GLIBC.replace(b"2.36.", b"2.31.")}
    tree = merged({**old, "lib/x86_64-linux-gnu/libc.so.6": "libc-2.31.so", "usr/bin/python3.11": b""})
    assert look_inside(tree, {}).glibc == "2.31"


def test_every_reason_is_given() -> None:
    """Alpine without Python is refused for both, in one answer."""
    with pytest.raises(BuildRefused) as refused:
        look_inside(merged({"lib/ld-musl-x86_64.so.1": b""}), {})
    assert len(refused.value.reasons) == 2
    assert "musl" in str(refused.value)


def test_a_broken_layer_is_said(tmp_path: Path, bases: BaseImages) -> None:
    """A layer that ends early, or is compressed with zstd, is refused with a sentence."""
    layout = Layout(tmp_path / "base")
    for layer, error in ((gzip.compress(tar_of(DEBIAN))[:-400], Corrupt), (b"\x28\xb5\x2f\xfd", BuildRefused)):
        config = canonical_json({"os": "linux", "architecture": "amd64"})
        manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=(Descriptor.of(layer, LAYER),)).as_json()
        for content in (layer, config, manifest):
            layout.put(content)
        layout.name(["broken"], Descriptor.of(manifest, MANIFEST))
        with pytest.raises(error):
            bases.pin("oci:base:broken", AMD)
