"""The rendered Dockerfile built for real: by podman, by buildah, and by docker where a daemon answers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mendel.adapters.engines import DockerfileEngine, EngineImages
from mendel.adapters.engines.external_program import Program
from mendel.adapters.oci.base_images import BaseImages
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.pip import CachedWheels, write_wheel
from mendel.errors import Conflict, ImageNotVerified, ProgramFailed
from mendel.images import (
    EngineNeeds,
    Environment,
    ImagePlan,
    Platform,
    RuntimePin,
    SourceRevision,
    WheelPin,
    ignore_progress,
    image_name,
    image_tags,
    plan_image,
    select_files,
)
from mendel.images.manifests import CONFIG, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.projects import load_project
from mendel.values import Digest, ReleaseTag
from mendel.values.directory_trees import file_digest
from support.waiting import until

SETTINGS = "classifier: {name: credit}\npredictor: {module: model, class_name: Model}\n"
MODEL = "class Model:\n    def predict(self, rows):\n        return rows\n"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
URL = "https://example.org/team/risk.git"
PLATFORM = Platform.parse("linux/amd64")


@pytest.fixture(scope="session")
def shelf(debian_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseImages, CachedWheels, Layout]:
    """A base made of Debian packages, which has no pip, in a layout; and a cache of wheels."""
    room = tmp_path_factory.mktemp("shelf")
    layout, rootfs = Layout(room / "base"), debian_rootfs.read_bytes()
    layer = Descriptor.of(rootfs, "application/vnd.oci.image.layer.v1.tar")
    layout.put(rootfs)
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "mmdebstrap"}],
        }
    )
    layout.put(config)
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=(layer,)).as_json()
    layout.put(manifest)
    layout.name(("base",), Descriptor.of(manifest, MANIFEST, platform=str(PLATFORM)))
    return BaseImages(cache=Layout(room / "bases"), root=room), CachedWheels(room / "wheels"), layout


@pytest.fixture
def plan(shelf, tmp_path) -> Callable[..., ImagePlan]:
    """Plans an image of a small project on that base, with a Mendel that needs no other wheel."""
    bases, wheels, layout = shelf
    runtime = small_mendel(wheels)

    def make(model: str = MODEL, **changes) -> ImagePlan:
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        (project / "mlserver.yaml").write_text(SETTINGS)
        (project / "model.py").write_text(model)
        loaded, tag = load_project(project), ReleaseTag.parse("credit-v1.0.0-mlserver-762e7f2")
        classifier = loaded.classifiers[0]
        origin = SourceRevision(
            repository="risk", created=datetime(2026, 1, 2, tzinfo=UTC), tag=tag, commit=COMMIT, url=URL
        )
        made = plan_image(
            classifier,
            select_files(loaded, classifier, project),
            origin=origin,
            environment=Environment(
                classifiers=("credit",),
                platform=str(PLATFORM),
                inputs=Digest("sha256:" + "1" * 64),
                requirements=(),
                base=bases.pin(f"oci:{layout.directory}:base", PLATFORM),
                wheels=(),
            ),
            runtime=RuntimePin(version="1", commit=None, url=None, how="checkout", wheel=runtime),
            lock=Digest("sha256:" + "2" * 64),
            name=image_name("risk", "credit")[0],
            tags=image_tags(tag.version, COMMIT),
        )
        return replace(made, **changes)

    return make


def small_mendel(wheels: CachedWheels) -> WheelPin:
    """A wheel of an older Mendel, as far as an image is asked for it: its predictors are imported, not loaded."""
    information, packages = "mendel-1.dist-info", ("mendel", "mendel/app", "mendel/app/cli", "mendel/app/server")
    files = {f"{package}/__init__.py": b"" for package in packages}
    files |= {"mendel/app/server/healthcheck.py": b"", f"{information}/METADATA": b"Name: mendel\nVersion: 1\n"}
    files |= {f"{information}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with wheels.unfinished() as scratch:
        file = scratch / "mendel-1-py3-none-any.whl"
        with file.open("wb") as into:
            write_wheel(files, information, into)
        size = file.stat().st_size
        pin = WheelPin(name="mendel", version="1", filename=file.name, sha256=file_digest(file), size_bytes=size)
        wheels.keep(file, pin)
    return pin


@pytest.fixture(params=["podman", "buildah", "docker"])
def engine(request, shelf, podman_environment) -> Iterator[Callable[..., DockerfileEngine]]:
    """An engine that keeps no container before and after."""
    if request.param == "docker":
        request.getfixturevalue("docker_builder")
    bases, wheels, _ = shelf

    def make(**more) -> DockerfileEngine:
        return DockerfileEngine(request.param, wheels=wheels, bases=bases, environment=podman_environment, **more)

    yield make
    assert containers(request.param, podman_environment) == []


def containers(name: str, environment: dict[str, str]) -> list[str]:
    listing = ("containers", "--all", "--quiet") if name == "buildah" else ("ps", "--all", "--quiet")
    return Program(name, environment).answer(*listing).split()


@pytest.fixture
def store(engine, podman_environment) -> EngineImages:
    """The images of the project in that engine; buildah's are podman's."""
    name = "docker" if engine().name == "docker" else "podman"
    return EngineImages(name, repository="risk", origin=URL, environment=podman_environment)


def test_a_plan_is_built_verified_and_then_named(engine, store, plan):
    """
    Nothing has a name before the predictor was imported; then all names mean one image with the plan's labels. The same
    plan again is the same image, out of the engine's cache.
    """
    steps: list[str] = []
    builder, made = engine(), plan()
    image = builder.build(made, use_cache=True, on_progress=lambda step: steps.append(step.doing))
    assert not image.reproducible
    assert any("COPY" in step for step in steps)
    builder.verify(made, image)
    assert store.images() == ()
    builder.commit(made, image)
    (record,) = store.images()
    assert record.digest == image.digest
    assert record.references == tuple(sorted(made.references))
    assert record.labels["com.classifier.git_tag"] == "credit-v1.0.0-mlserver-762e7f2"
    assert record.labels["com.mendel.reproducible"] == "false"
    assert record.platform == "linux/amd64"
    again = builder.build(made, use_cache=True, on_progress=ignore_progress)
    assert again.image_id == image.image_id  # the configuration tells when it was made
    store.remove(record.digest)
    assert store.images() == ()


def test_an_image_that_cannot_import_is_taken_away(engine, store, plan, podman_environment):
    """A predictor that fails to import is an error with its traceback, and the image is gone without a name."""
    builder, made = engine(), plan("import no_such_library\n" + MODEL)
    image = builder.build(made, use_cache=True, on_progress=ignore_progress)
    with pytest.raises(ImageNotVerified, match="no_such_library") as refused:
        builder.verify(made, image)
    assert "Traceback" in refused.value.log_tail
    assert store.images() == ()
    name = "docker" if builder.name == "docker" else "podman"
    assert Program(name, podman_environment).attempt("image", "inspect", image.image_id.hex).code


def test_a_failing_step_is_an_error_with_the_log(engine, store, plan):
    """What pip refuses is told with the end of the engine's log, and leaves neither names nor containers."""
    builder = engine(needs=EngineNeeds(sources=("no-such @ file:///nowhere/no_such-1-py3-none-any.whl",)))
    with pytest.raises(ProgramFailed) as refused:
        builder.build(plan(), use_cache=False, on_progress=ignore_progress)
    assert "/nowhere/no_such-1-py3-none-any.whl" in refused.value.log_tail
    assert store.images() == ()


def test_only_images_of_this_repository_and_origin_are_listed_and_removed(engine, plan, podman_environment):
    """A repository of the same name elsewhere, and one whose name begins the same, keep their images."""
    builder = engine()
    own = plan()
    others = [
        replace(
            own, labels={**own.labels, "com.classifier.git_url": "https://example.org/other/risk.git"}, tags=("x",)
        ),
        replace(own, labels={**own.labels, "com.classifier.repository": "risk-extra"}, tags=("y",)),
    ]
    for made in (own, *others):
        builder.commit(made, builder.build(made, use_cache=True, on_progress=ignore_progress))
    name = "docker" if builder.name == "docker" else "podman"
    store = EngineImages(name, repository="risk", origin=URL, environment=podman_environment)
    (record,) = store.images()
    assert record.references == tuple(sorted(own.references))
    program = Program(name, podman_environment)
    program.answer("create", "--name=holds-it", record.references[0])
    try:
        with pytest.raises(Conflict, match="a container uses"):
            store.remove(record.digest)
    finally:
        program.answer("rm", "holds-it")
    for made in others:
        store.remove(
            Digest(f"sha256:{program.answer('image', 'inspect', '--format={{.Id}}', made.references[0]).strip()[-64:]}")
        )
        program.answer("image", "inspect", made.references[0])
    store.remove(record.digest)
    assert store.images() == ()


def test_ctrl_c_leaves_no_container_and_no_process(engine, plan, podman_environment, tmp_path):
    """An interrupted build ends what runs in it and lets the engine tidy up."""
    name = engine().name
    context = tmp_path / "slow"
    context.mkdir()
    base = engine()._base(plan(), ignore_progress)
    marker = f"{time.monotonic_ns()}"
    (context / "Dockerfile").write_text(
        f'FROM {base}\nRUN ["python3", "-c", "import time; time.sleep(60)", "{marker}"]\n'
    )
    program = tmp_path / "interrupted.py"
    program.write_text(
        f"""
from mendel.adapters.engines.external_program import Program
arguments = ["build", "--force-rm", "--no-cache", "--file={context / "Dockerfile"}", "{context}"]
Program({name!r}).watch(*arguments, within=None, write=lambda line: print(line, flush=True))
"""
    )
    process = subprocess.Popen([sys.executable, program], env=podman_environment, stderr=subprocess.PIPE)
    until(lambda: running_with(marker))
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in complaint
    keeper = "buildah" if name == "podman" else name  # a daemon tidies up after its client is gone
    until(lambda: not running_with(marker) and not containers(keeper, podman_environment))


def running_with(marker: str) -> list[Path]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"\0{marker}\0".encode() in file.read_bytes() and b"time.sleep(60)" in file.read_bytes():
                found.append(file)
        except OSError:
            continue
    return found
