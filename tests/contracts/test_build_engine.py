"""The contract of BuildEngine, over memory, Mendel's own builder and podman."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from mendel.adapters.engines import DockerfileEngine, EngineImages
from mendel.adapters.memory.base_images import MemoryBases
from mendel.adapters.memory.build_engine import MemoryBuildEngine
from mendel.adapters.memory.image_store import MemoryImageStore
from mendel.adapters.memory.wheels import MemoryIndex, MemoryWheels
from mendel.adapters.oci.image_builder import OciEngine
from mendel.adapters.oci.layers.layer_cache import LayerCache
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.layout.layout_images import LayoutImages
from mendel.adapters.oci.sandbox.load_check import LoadCheck
from mendel.errors import BuildRefused, ImageNotFound, ImageNotVerified, WheelNotFound
from mendel.images import (
    BasePin,
    BuildEngine,
    BuiltImage,
    Environment,
    ImageName,
    ImagePlan,
    ImageStore,
    Platform,
    RunSettings,
    RuntimePin,
    SourceFile,
    WheelPin,
    ignore_progress,
)
from mendel.values import Digest
from mendel.values.directory_trees import file_digest
from support.wheels import wheel

AMD = Platform.parse("linux/amd64")
MODEL = "import alpha\n\nclass Model:\n    def predict(self, rows):\n        return rows\n"
MENDEL = {
    f"mendel/{name}": b""
    for name in ("__init__.py", "app/__init__.py", "app/server/__init__.py", "app/server/healthcheck.py")
} | {"mendel/app/cli/__init__.py": b""}


@dataclass(kw_only=True)
class Lab:
    """An engine over bases and wheels in memory, the store that lists its images, and plans."""

    engine: BuildEngine
    store: ImageStore
    repository: str
    base: BasePin
    alpha: WheelPin
    runtime: WheelPin
    project: Path

    def plan(self, model: str = MODEL) -> ImagePlan:
        """A plan of one module, in a directory of its own."""
        directory = self.project / uuid4().hex
        directory.mkdir()
        file = directory / "model.py"
        file.write_text(model, encoding="utf-8")
        source = SourceFile(path="model.py", source=file, size_bytes=file.stat().st_size, digest=file_digest(file))
        return ImagePlan(
            classifier="credit",
            name=ImageName(repository=self.repository, classifier="credit"),
            tags=("latest", "v1.0.0"),
            labels={
                "com.classifier.repository": self.repository,
                "com.classifier.predictor.module": "model.py",
                "com.classifier.predictor.class": "Model",
            },
            created=datetime(2026, 3, 1, 12, tzinfo=UTC),
            environment=Environment(
                classifiers=("credit",),
                platform=str(AMD),
                inputs=Digest("sha256:" + "0" * 64),
                requirements=(),
                base=self.base,
                wheels=(self.alpha,),
            ),
            runtime=RuntimePin(version="1.0", commit=None, url=None, how="checkout", wheel=self.runtime),
            artifacts=(),
            code=(source,),
            manifest=b"{}",
            run=RunSettings(
                command=("/opt/mendel/bin/python",),
                environment={"HOME": "/data"},
                ports=(8000,),
                healthcheck=("/opt/mendel/bin/python",),
            ),
        )

    def build(self, plan: ImagePlan) -> BuiltImage:
        return self.engine.build(plan, use_cache=True, on_progress=ignore_progress)

    def references(self) -> set[str]:
        return {name for record in self.store.images() for name in record.references}


@pytest.fixture(scope="module", params=["memory", "oci", "podman"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    room, index = tmp_path_factory.mktemp("engine"), MemoryIndex()
    bases, wheels = MemoryBases(room / "bases"), MemoryWheels(index, room / "wheels")
    rootfs = b"\0" * 1024 if request.param == "memory" else request.getfixturevalue("debian_rootfs").read_bytes()
    bases.add("base:1", AMD, [rootfs])
    repository = f"risk-{uuid4().hex[:8]}"
    engine: BuildEngine
    store: ImageStore
    match request.param:
        case "memory":
            store = memory = MemoryImageStore()
            engine = MemoryBuildEngine(bases=bases, wheels=wheels, store=memory)
        case "oci":
            layout = Layout(room / "images")
            store = LayoutImages(layout)
            engine = OciEngine(
                layout=layout,
                layers=LayerCache(room / "layers"),
                bases=bases,
                wheels=wheels,
                verifier=LoadCheck(room / "rootfs"),
            )
        case name:
            environment = request.getfixturevalue("podman_environment")
            store = EngineImages(name, repository=repository, origin=None, environment=environment)
            engine = DockerfileEngine(name, wheels=wheels, bases=bases, environment=environment)
    (room / "project").mkdir()
    yield Lab(
        engine=engine,
        store=store,
        repository=repository,
        base=bases.pin("base:1", AMD),
        alpha=index.add(*wheel("alpha", "1.0")),
        runtime=index.add(*wheel("mendel", "1.0", files=MENDEL)),
        project=room / "project",
    )
    if isinstance(engine, OciEngine):
        engine.close()


@pytest.fixture(scope="module")
def built(lab: Lab) -> tuple[ImagePlan, BuiltImage]:
    """A plan and its image, verified and not named."""
    plan = lab.plan()
    image = lab.build(plan)
    lab.engine.verify(plan, image)
    return plan, image


@pytest.fixture(autouse=True)
def empty(lab: Lab) -> None:
    """Each test begins without an image."""
    for record in lab.store.images():
        lab.store.remove(record.digest)


def test_an_image_gets_its_names_by_commit_alone(lab, built):
    """Built and verified it has no name; committed, every reference of the plan means it, and committing again too."""
    plan, image = built
    assert lab.references() == set()
    for _ in range(2):
        lab.engine.commit(plan, image)
        (record,) = lab.store.images()
        assert (record.digest, set(record.references)) == (image.digest, set(plan.references))
    assert (image.engine, record.platform) == (lab.engine.name, "linux/amd64")
    assert record.labels["com.classifier.predictor.class"] == "Model"


@pytest.mark.slow
def test_names_move_and_images_stay(lab):
    """A plan for other tags takes the names it has; the former image keeps the others."""
    plan, changed = lab.plan(), lab.plan(f"{MODEL}\n# changed\n")
    first, second = lab.build(plan), lab.build(changed)
    lab.engine.commit(plan, first)
    lab.engine.commit(replace(changed, tags=("latest", "v1.0.1")), second)
    tags = {record.digest: {name.rpartition(":")[2] for name in record.references} for record in lab.store.images()}
    assert tags == {first.digest: {"v1.0.0"}, second.digest: {"latest", "v1.0.1"}}


def test_equal_plans_give_equal_images(lab, built):
    """Unless the image says that it is not reproducible: with and without the cache, and what was reused is said."""
    plan, first = built
    if not first.reproducible:
        return
    again = lab.build(plan)
    anew = lab.engine.build(plan, use_cache=False, on_progress=ignore_progress)
    assert first.digest == again.digest == anew.digest
    assert first.image_id == again.image_id
    assert all(layer.reused for layer in again.layers)
    assert not all(layer.reused for layer in anew.layers)
    assert lab.build(lab.plan(f"{MODEL}\n# changed\n")).digest != first.digest


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_a_file_that_changed_since_the_plan_is_refused(lab, change):
    """It is in no image, and no name is given."""
    plan = lab.plan(f"{MODEL}\n# to be {change}\n")
    if change == "gone":
        plan.code[0].source.unlink()
    else:
        plan.code[0].source.write_text("class Other: pass\n", encoding="utf-8")
    with pytest.raises(BuildRefused, match=r"model\.py"):
        lab.build(plan)
    assert lab.references() == set()


def test_inputs_that_are_gone_are_named(lab):
    """A wheel that the index withdrew and a base that no place has end the build."""
    plan = lab.plan()
    gone = replace(lab.alpha, sha256=Digest("sha256:" + "1" * 64), filename="gone-1.0-py3-none-any.whl", name="gone")
    with pytest.raises(WheelNotFound, match="gone"):
        lab.build(replace(plan, environment=replace(plan.environment, wheels=(gone,))))
    absent = replace(lab.base, digest=Digest("sha256:" + "2" * 64))
    with pytest.raises(ImageNotFound):
        lab.build(replace(plan, environment=replace(plan.environment, base=absent)))
    assert lab.references() == set()


@pytest.mark.parametrize(
    ("model", "says"),
    [("import nonesuch\n\nclass Model: ...\n", "No module named 'nonesuch'"), ("class Other: ...\n", "has no Model")],
)
def test_a_predictor_that_does_not_import_is_told(lab, model, says):
    """A missing library and a missing class are in the error, and the image is never named."""
    plan = lab.plan(model)
    image = lab.build(plan)
    with pytest.raises(ImageNotVerified, match=says):
        lab.engine.verify(plan, image)
    assert lab.references() == set()


def test_an_image_that_is_gone_is_not_named(lab):
    """Committing what does not exist any more is refused."""
    digest = Digest("sha256:" + "3" * 64)
    absent = BuiltImage(digest=digest, image_id=digest, layers=(), engine=lab.engine.name, reproducible=True)
    with pytest.raises(ImageNotFound):
        lab.engine.commit(lab.plan(), absent)
    assert lab.references() == set()
