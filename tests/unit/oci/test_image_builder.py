"""The canonical builder, over a base and wheels of a few bytes."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mendel.adapters.oci.layers.compression import compress
from mendel.adapters.oci.layout.image_config import BASE_DIGEST, BASE_NAME
from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import BuildRefused, Corrupt, DigestMismatch, ImageNotFound, WheelNotFound
from mendel.images import BuiltImage, ImagePart, Interpreter, TaskProgress, ignore_progress
from mendel.images.manifests import LAYER
from mendel.images.tar_archives import EPOCH_1980, File

Make = Callable[..., Any]


def files_of(layout: Layout, image: BuiltImage) -> dict[str, tarfile.TarInfo]:
    """Every entry of the image's own layers."""
    found: dict[str, tarfile.TarInfo] = {}
    for layer in image.layers:
        if layer.part is not ImagePart.BASE and layer.digest is not None:
            with tarfile.open(layout.path(layer.digest)) as archive:
                found |= {member.name: member for member in archive}
    return found


def config_of(layout: Layout, image: BuiltImage) -> dict[str, Any]:
    return json.loads(layout.read(image.image_id))


def unfinished(room: Path) -> list[Path]:
    return list(room.rglob(".unfinished-*"))


def test_equal_plans_are_equal_bytes(make_workshop: Make) -> None:
    """Two directories, two caches, other times, modes and masks of files: one digest."""
    one, other = make_workshop("one"), make_workshop("a place with spaces and ünïcode")
    for path in other.project.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    mask = os.umask(0o077)
    try:
        built = other.build(cache="cold")
    finally:
        os.umask(mask)
    assert one.build() == built
    assert one.layout.read(built.digest) == other.layout.read(built.digest)


def test_what_stands_in_the_bytes(make_workshop: Make) -> None:
    """The digest of a fixed plan is what it was when this was written: nothing of this machine is in it."""
    assert make_workshop().build().digest == GOLDEN


GOLDEN = "sha256:29141b0d041c30b9cd64384a68a5fcfa0cb146ed1c4b5d9dbe8fc728935b117b"


def test_everything_has_its_layer(workshop: Any) -> None:
    """Base, scaffold, large wheel, small wheels, runtime, artefacts, code: bottom up, with what each holds."""
    image = workshop.build()
    assert [(layer.part, layer.title) for layer in image.layers] == [
        (ImagePart.BASE, "base"),
        (ImagePart.DEPENDENCIES, "environment"),
        (ImagePart.DEPENDENCIES, "large 1.0"),
        (ImagePart.DEPENDENCIES, "alpha 1.0, beta 1.0"),
        (ImagePart.RUNTIME, "mendel 1.0"),
        (ImagePart.ARTIFACTS, "1 files"),
        (ImagePart.CODE, "2 files"),
    ]
    files = files_of(workshop.layout, image)
    assert {
        "app/model.py",
        "app/model.bin",
        "app/mendel-manifest.json",
        "opt/mendel/bin/alpha",
        "opt/mendel/pyvenv.cfg",
        "opt/mendel/lib/python3.11/site-packages/beta.py",
    } < set(files)
    owned = {name for name, member in files.items() if (member.uid, member.gid) != (0, 0)}
    assert (owned, files["data"].uid) == ({"data"}, 10001)
    assert {member.mtime for member in files.values()} == {EPOCH_1980}
    assert {oct(member.mode) for member in files.values()} <= {"0o644", "0o755", "0o777"}


def test_two_environments_have_their_own_layers(workshop: Any, make_wheel: Make, pin: Make) -> None:
    """The project's wheels come above Mendel's, in an environment of its own with its own interpreter."""
    plan = workshop.plan()
    old = pin(make_wheel("alpha", {"alpha.py": b"OLD = 1\n"}, version="0.1"))
    newer = Interpreter(python="3.11", path="/usr/bin/python3.11")
    base = replace(plan.environment.base, python="3.9", interpreter="/usr/bin/python3.9", runtime=newer)
    image = workshop.build(replace(plan, environment=replace(plan.environment, base=base, project=(old,))))
    assert [(layer.part, layer.title) for layer in image.layers[3:6]] == [
        (ImagePart.DEPENDENCIES, "alpha 1.0, beta 1.0"),
        (ImagePart.RUNTIME, "mendel 1.0"),
        (ImagePart.PROJECT, "alpha 0.1"),
    ]
    files = files_of(workshop.layout, image)
    links = {name: member.linkname for name, member in files.items() if name.endswith("/bin/python")}
    assert links == {"opt/mendel/bin/python": "/usr/bin/python3.11", "opt/project/bin/python": "/usr/bin/python3.9"}
    modules = ("mendel/lib/python3.11/site-packages/beta.py", "project/lib/python3.9/site-packages/alpha.py")
    assert {f"opt/{module}" for module in modules} < set(files)
    variables = config_of(workshop.layout, image)["config"]["Env"]
    assert "PATH=/opt/mendel/bin:/opt/project/bin:/usr/bin:/bin" in variables


def test_the_configuration_is_the_plan_and_little_of_the_base(workshop: Any) -> None:
    """Environment merged, PATH led by the image's own, base's labels and entry point dropped, history of both."""
    plan = workshop.plan()
    config = config_of(workshop.layout, workshop.build(plan))
    assert config["created"] == "2026-03-01T12:00:00Z"
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"] == {
        "Cmd": ["/opt/mendel/bin/python", "-m", "mendel.app.cli", "serve"],
        "Env": ["HOME=/data", "LANG=C.UTF-8", "PATH=/opt/mendel/bin:/usr/bin:/bin", "PYTHONUNBUFFERED=1"],
        "ExposedPorts": {"7211/tcp": {}, "7212/tcp": {}, "8000/tcp": {}},
        "Healthcheck": {
            "Test": ["CMD", "/opt/mendel/bin/python", "-m", "mendel.app.server.healthcheck", "/data"],
            "Interval": 10**10,
            "Timeout": 5 * 10**9,
            "StartPeriod": 60 * 10**9,
            "Retries": 3,
        },
        "Labels": dict(plan.labels),
        "User": "10001:10001",
        "WorkingDir": "/app",
    }
    filled = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(filled) == len(config["rootfs"]["diff_ids"])
    assert filled[0] == {"created_by": "debian"}
    assert filled[3] == {"created": "2026-03-01T12:00:00Z", "created_by": "mendel dependencies: alpha 1.0, beta 1.0"}


def test_the_base_is_taken_as_it_is(workshop: Any, make_base: Make) -> None:
    """Blobs of a base of docker's form keep their bytes and get OCI's names; the manifest says which base it was."""
    layers = [File.of("usr/bin/python3.11", b"elf")]
    workshop.base = make_base(workshop.room / "docker", layers, docker=True)
    image = workshop.build()
    manifest = workshop.layout.manifest(image.digest)
    given = workshop.base.loaded.manifest.layers[0]
    assert (manifest.layers[0].digest, manifest.layers[0].media_type) == (given.digest, LAYER)
    assert manifest.annotations == {BASE_DIGEST: workshop.base.pin.digest, BASE_NAME: "python:3.11-slim"}
    blob = workshop.base.loaded.blobs.path(given.digest)
    assert workshop.layout.path(given.digest).samefile(blob)


def test_a_base_that_is_a_path_of_this_machine_is_not_named(workshop: Any) -> None:
    """Where a base lay on the machine that built is in no byte of the image."""
    workshop.base = replace(workshop.base, pin=replace(workshop.base.pin, reference=f"oci:{workshop.room}/base"))
    image = workshop.build()
    assert BASE_NAME not in workshop.layout.manifest(image.digest).annotations


def test_names_are_given_by_commit_alone(workshop: Any) -> None:
    """A build names nothing; commit moves every name at once, and the former image loses only these."""
    engine, plan = workshop.engine(), workshop.plan()
    first = engine.build(plan, use_cache=True, on_progress=ignore_progress)
    assert workshop.layout.named() == ()
    engine.commit(plan, first)
    assert {entry.digest for entry in workshop.layout.named()} == {first.digest}
    (workshop.project / "model.py").write_text("class Model: x = 1\n")
    second = workshop.build(workshop.plan(tags=("latest",)))
    assert {
        entry.annotations["org.opencontainers.image.ref.name"]: entry.digest for entry in workshop.layout.named()
    } == {
        "risk/credit:latest": second.digest,
        "risk/credit:v1.0.0": first.digest,
    }


def test_editing_code_makes_one_layer_and_reads_nothing_else(workshop: Any) -> None:
    """With wheels gone and artefacts gone, a code change still builds, from layers made before."""
    workshop.build()
    (workshop.project / "model.py").write_text("class Model:\n    changed = True\n")
    plan = workshop.plan()
    (workshop.project / "model.bin").unlink()
    workshop.shelf.asked.clear()
    for wheel in workshop.shelf.directory.iterdir():
        wheel.unlink()
    image = workshop.build(plan)
    assert [layer.part for layer in image.layers if not layer.reused] == [ImagePart.CODE]
    assert workshop.shelf.asked == []


def test_without_the_cache_every_layer_is_made_again(workshop: Any) -> None:
    """``use_cache=False`` gives the same image, and reuses only the base."""
    first = workshop.build()
    again = workshop.engine().build(workshop.plan(), use_cache=False, on_progress=ignore_progress)
    assert again.digest == first.digest
    assert {layer.part for layer in again.layers if layer.reused} == {ImagePart.BASE}


def test_a_damaged_layer_of_the_cache_is_made_again(workshop: Any) -> None:
    """Bytes that rot in the cache do not reach an image."""
    first = workshop.build()
    code = first.layers[-1]
    blob = workshop.room / "cache" / "layers" / "blobs" / "sha256" / code.digest.hex
    rotten = bytearray(blob.read_bytes())
    rotten[-9] ^= 1
    blob.unlink()
    blob.write_bytes(rotten)
    image = workshop.build(layout=Layout(workshop.room / "second"))
    assert image.digest == first.digest
    assert [layer.part for layer in image.layers if not layer.reused] == [ImagePart.CODE]


@pytest.mark.parametrize("content", [b"other", b"weightS" * 1000, b"weights" * 1001, None])
def test_a_file_that_changes_during_the_build_stops_it(workshop: Any, content: bytes | None) -> None:
    """Shorter, of equal length, longer or gone: the file is named, nothing of it is kept."""
    plan = workshop.plan()
    path = workshop.project / "model.bin"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BuildRefused, match=r"model\.bin was changed during the build"):
        workshop.build(plan)
    assert workshop.layout.named() == ()
    assert unfinished(workshop.room) == []


def test_a_wheel_that_vanished_is_named(workshop: Any) -> None:
    """A pinned wheel that nobody has stops the build before any layer of it."""
    plan = workshop.plan()
    (workshop.shelf.directory / "beta-1.0-py3-none-any.whl").unlink()
    with pytest.raises(WheelNotFound, match="beta"):
        workshop.build(plan)


def test_wheels_that_disagree_build_nothing(workshop: Any, make_wheel: Make) -> None:
    """Two wheels that bring a path with other content are named, Mendel's own included."""
    workshop.wheels = (*workshop.wheels, make_wheel("gamma", {"mendel/__init__.py": b"other"}))
    with pytest.raises(BuildRefused, match="gamma and mendel both contain"):
        workshop.build()


def test_a_base_for_another_platform_is_refused(workshop: Any, make_base: Make) -> None:
    """A lock for amd64 with a base for arm64 makes no image."""
    workshop.base = make_base(workshop.room / "arm", [File.of("x", b"")], architecture="arm64")
    with pytest.raises(BuildRefused, match="linux/arm64, not for linux/amd64"):
        workshop.build()


def test_a_base_that_lies_about_its_layers_is_refused(workshop: Any, make_base: Make) -> None:
    """Configuration and blobs of a base must agree, in number and content."""
    workshop.base = make_base(workshop.room / "few", [File.of("x", b"")], rootfs={"type": "layers", "diff_ids": []})
    with pytest.raises(Corrupt, match="different numbers"):
        workshop.build()
    wrong = {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}
    workshop.base = make_base(workshop.room / "wrong", [File.of("x", b"")], rootfs=wrong)
    with pytest.raises(DigestMismatch, match="but its image states"):
        workshop.build()


def test_another_platform_is_built_without_emulation(workshop: Any, make_base: Make) -> None:
    """An arm64 image is made here, verified by nobody, and the progress says so."""
    workshop.base = make_base(workshop.room / "arm", [File.of("x", b"")], architecture="arm64", variant="v8")
    plan = workshop.plan()
    foreign = "linux/arm64" if os.uname().machine == "x86_64" else "linux/amd64"
    if foreign == "linux/amd64":
        workshop.base = make_base(workshop.room / "amd", [File.of("x", b"")])
    plan = replace(plan, environment=replace(plan.environment, platform=foreign, base=workshop.base.pin))
    said: list[TaskProgress] = []
    engine = workshop.engine()
    image = engine.build(plan, use_cache=True, on_progress=said.append)
    engine.verify(plan, image)
    engine.commit(plan, image)
    assert any(progress.doing.startswith("image not verified") for progress in said)
    assert [entry.platform for entry in workshop.layout.named()] == [foreign, foreign]


@pytest.mark.parametrize("after", range(1, 9))
def test_an_interrupt_anywhere_leaves_no_name_and_no_half_blob(workshop: Any, after: int) -> None:
    """Ctrl-C at each step in turn: nothing is named, nothing is unfinished, and the next build is whole."""
    count = 0

    def interrupt(_: TaskProgress) -> None:
        nonlocal count
        count += 1
        if count == after:
            raise KeyboardInterrupt

    engine = workshop.engine()
    try:
        engine.build(workshop.plan(), use_cache=True, on_progress=interrupt)
    except KeyboardInterrupt:
        assert workshop.layout.named() == ()
    engine.close()
    assert unfinished(workshop.room) == []
    assert workshop.build().digest == GOLDEN


def test_a_removal_takes_no_blob_of_a_build(workshop: Any, make_workshop: Make) -> None:
    """Between build and commit nothing vanishes; afterwards, what nobody needs does."""
    former = workshop.build(workshop.plan(manifest=b"former"))
    engine, plan = workshop.engine(), workshop.plan()
    image = engine.build(plan, use_cache=True, on_progress=ignore_progress)
    workshop.layout.remove(former.digest)
    assert workshop.layout.named() == ()
    engine.commit(plan, image)
    assert {entry.digest for entry in workshop.layout.named()} == {image.digest}
    workshop.layout.remove(former.digest)
    assert not workshop.layout.has(former.digest)
    needed = {image.digest, image.image_id, *(layer.digest for layer in image.layers)}
    assert {f"sha256:{path.name}" for path in (workshop.layout.directory / "blobs/sha256").iterdir()} == needed


def test_an_image_removed_before_its_commit_is_not_named(workshop: Any) -> None:
    """A name never points to blobs that are gone."""
    engine, plan = workshop.engine(), workshop.plan()
    image = engine.build(plan, use_cache=True, on_progress=ignore_progress)
    engine.close()
    workshop.layout.remove(image.digest)
    with pytest.raises(ImageNotFound):
        engine.commit(plan, image)
    assert workshop.layout.named() == ()


def test_an_image_without_artefacts_has_no_layer_for_them(workshop: Any) -> None:
    """Nothing is as little as no layer."""
    image = workshop.build(workshop.plan(artifacts=()))
    assert ImagePart.ARTIFACTS not in {layer.part for layer in image.layers}


def test_time_moves_the_image_and_no_layer(workshop: Any) -> None:
    """A later commit of the same content is another image over the same blobs."""
    plan = workshop.plan()
    one, later = workshop.build(plan), workshop.build(replace(plan, created=plan.created + timedelta(days=1)))
    assert one.digest != later.digest
    assert [layer.digest for layer in one.layers] == [layer.digest for layer in later.layers]


def test_progress_counts_the_bytes_of_files(workshop: Any) -> None:
    """Artefacts are counted while they are read, up to their total."""
    said: list[TaskProgress] = []
    workshop.engine().build(workshop.plan(), use_cache=True, on_progress=said.append)
    counted = [progress for progress in said if progress.doing == "artifacts"]
    assert counted[-1].done == counted[-1].total == 7000


def test_compressing_twice_is_the_same_blob() -> None:
    """A layer's blob does not depend on threads that race."""
    content = os.urandom(5 << 20)
    made = {compress([content], io.BytesIO()).digest for _ in range(5)}
    assert len(made) == 1
