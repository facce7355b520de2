"""Registering: one call, one version; a failure half-way leaves nothing that is listed."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path

import pytest

from mendel.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    InvalidValue,
    ModelNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from mendel.registry import (
    Improvement,
    Published,
    Registration,
    RegistrationMetadata,
    Registry,
    VersionImage,
    VersionStatus,
    default_name,
)
from mendel.values import Digest, ModelName, Stage, VersionRef, VersionUuid
from mendel.values.directory_trees import tree_digest

HOUR = timedelta(hours=1)


class Poison:
    """Creates the file it names when somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


class FailsOnce:
    """An artefact store that fails before or after the next publication."""

    def __init__(self, inner, *, after):
        self._inner = inner
        self._after = after
        self._failed = False

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def publish(self, *args, **kwargs):
        if self._failed:
            return self._inner.publish(*args, **kwargs)
        self._failed = True
        if self._after:
            self._inner.publish(*args, **kwargs)
        raise StoreUnavailable("The disk is away.")


def test_one_call_makes_one_version(house, registry):
    """A registered version is found by number, uuid and model, in development, with one event."""
    record = registry.versions.register(house.request(), house.tree())
    assert record.ref == house.ref(1)
    assert record.stage is Stage.DEVELOPMENT
    assert record.status is VersionStatus.READY
    assert registry.versions.get(record.ref) == registry.versions.by_uuid(record.uuid) == record
    assert registry.versions.of(house.model) == (record,)
    assert registry.versions.models() == (house.model,)
    (event,) = house.events("model.registered")
    assert event.subject == "credit@1"
    assert event.data["registered_version"] == 1
    assert {"model_id", "idempotency_key", "timestamp", "baseline_metrics", "metadata"} <= event.data.keys()


def test_calls_without_a_key_make_versions_of_their_own(house, registry):
    """The same tree registered twice without a key is two versions."""
    tree = house.tree()
    numbers = [registry.versions.register(house.request(), tree).number for _ in range(2)]
    assert numbers == [1, 2]


def test_the_same_key_and_content_is_one_version(house, registry):
    """A repeated call with its key answers the version it made, and writes nothing."""
    tree = house.tree()
    first = registry.versions.register(house.request(idempotency_key="k"), tree)
    assert registry.versions.register(house.request(idempotency_key="k"), tree) == first
    assert len(registry.versions.of(house.model)) == 1
    assert len(house.events("model.registered")) == 1


def test_the_same_key_for_other_content_is_refused(house, registry):
    """A key that stands for other bytes is an AlreadyExists, and no version."""
    registry.versions.register(house.request(idempotency_key="k"), house.tree())
    with pytest.raises(AlreadyExists):
        registry.versions.register(house.request(idempotency_key="k"), house.tree())
    assert len(registry.versions.of(house.model)) == 1


def test_keys_belong_to_a_model(house, registry):
    """The same key under another model is another registration."""
    registry.versions.register(house.request(idempotency_key="k"), house.tree())
    other = registry.versions.register(house.request(model=ModelName("other"), idempotency_key="k"), house.tree())
    assert str(other.ref) == "other@1"


@pytest.mark.parametrize("after", [False, True], ids=["before-publishing", "after-publishing"])
def test_a_failure_half_way_leaves_nothing_listed(house, registry, after):
    """When the artefact store fails, no version, model or event appears; the same call again ends the work."""
    registry = house.over(artifacts=FailsOnce(house.artifacts, after=after))
    tree = house.tree()
    with pytest.raises(StoreUnavailable):
        registry.versions.register(house.request(idempotency_key="k"), tree)
    assert registry.versions.models() == ()
    assert house.events() == []
    with pytest.raises(ModelNotFound):
        registry.versions.of(house.model)
    record = registry.versions.register(house.request(idempotency_key="k"), tree)
    assert record.number == 1
    assert registry.versions.of(house.model) == (record,)


@pytest.mark.parametrize("after", [False, True], ids=["before-publishing", "after-publishing"])
def test_the_sweeper_deletes_what_never_ended(house, registry, after):
    """Pending work is deleted with its artefact once it is older than an hour, and not before."""
    registry = house.over(artifacts=FailsOnce(house.artifacts, after=after))
    with pytest.raises(StoreUnavailable):
        registry.versions.register(house.request(idempotency_key="k"), house.tree())
    house.clock.forward(minutes=60)
    assert registry.versions.sweep_pending(older_than=HOUR) == 0
    house.clock.forward(seconds=1)
    assert registry.versions.sweep_pending(older_than=HOUR) == 1
    assert registry.versions.sweep_pending(older_than=HOUR) == 0
    assert house.artifacts.find("credit/k") is None
    assert registry.versions.register(house.request(idempotency_key="k"), house.tree()).number >= 1


def test_the_sweeper_spares_what_ended(house, registry):
    """Registered versions are not pending, however old."""
    record = registry.versions.register(house.request(), house.tree())
    house.clock.forward(days=1)
    assert registry.versions.sweep_pending() == 0
    assert registry.versions.tree(record.ref).is_dir()


def test_a_registration_that_was_swept_cannot_end(house, registry):
    """A registration that outlives its sweep is refused, and lists nothing."""
    inner = house.artifacts

    class Slow:
        def __getattr__(self, name):
            return getattr(inner, name)

        def publish(self, *args, **kwargs):
            published = inner.publish(*args, **kwargs)
            house.clock.forward(hours=2)
            registry.versions.sweep_pending()
            return published

    registry = house.over(artifacts=Slow())
    with pytest.raises(Conflict):
        registry.versions.register(house.request(), house.tree())
    assert registry.versions.models() == ()


def test_what_a_rival_process_published_first_stands(house, registry):
    """Of two publications for one key only the first to end is listed; the other is discarded."""
    tree, late = house.tree(), VersionUuid("m-" + "d" * 32)
    rival = Registry(house.unit, house.artifacts, house.clock, iter("abcdefgh").__next__)

    class Overtaken:
        """Publishes under another uuid, after a rival process has registered the same key."""

        discarded = None

        def __getattr__(self, name):
            return getattr(house.artifacts, name)

        def publish(self, publication, tree, *, data=None):
            rival.versions.register(house.request(idempotency_key="k"), tree)
            return Published(key=publication.key, uuid=late, number=2, run_id=None)

        def discard(self, key, *, uuid=None):
            self.discarded = uuid

    overtaken = Overtaken()
    registry = house.over(artifacts=overtaken)
    record = registry.versions.register(house.request(idempotency_key="k"), tree)
    assert record.uuid != late
    assert overtaken.discarded == late
    assert registry.versions.of(house.model) == (record,)


def test_files_come_back_as_they_were(house, registry):
    """The kept tree has the digest of the registered one; data lie beside it and are not in the digest."""
    tree, data = house.tree(), house.root / "rows"
    data.mkdir()
    (data / "training.parquet").write_bytes(b"rows")
    record = registry.versions.register(house.request(), tree, data=data)
    assert record.artifact_digest == tree_digest(tree)
    assert tree_digest(registry.versions.tree(record.ref), exclude=("data",)) == record.artifact_digest
    assert (registry.versions.data(record.ref) / "training.parquet").read_bytes() == b"rows"
    assert tree_digest(registry.versions.data(record.ref)) == record.data_digest
    assert registry.versions.tree_by_digest(record.artifact_digest) == registry.versions.tree(record.ref)


def test_a_version_without_data_says_so(house, registry):
    """No data directory is None, not an empty path."""
    record = registry.versions.register(house.request(), house.tree())
    assert registry.versions.data(record.ref) is None
    assert record.data_digest is None


def test_a_poisoned_pickle_never_runs(house, registry):
    """Registering, promoting and handing out a malicious pickle does not execute it."""
    trap = house.root / "sprung"
    tree = house.tree(pickle.dumps(Poison(trap)))
    record = registry.versions.register(house.request(), tree)
    registry.lifecycle.approve(record.ref, policy=True, bias=True, by="ann")
    registry.lifecycle.transition(record.ref, Stage.SANDBOX, by="ann", without_parity="no rows")
    registry.lifecycle.promote(record.ref, by="ann")
    registry.artifact_mirror.mirror(house.model)
    registry.versions.registered(record.ref)
    assert (registry.versions.tree(record.ref) / "model.joblib").read_bytes() == (tree / "model.joblib").read_bytes()
    assert registry.lifecycle.desired_state().models
    assert not trap.exists()


@pytest.mark.parametrize(
    ("mlmodel", "word"),
    [
        ("flavors: [", "YAML"),
        ("- 1", "flavors"),
        ("flavors: sklearn", "flavors"),
        ("flavors: {onnx: {}}", "sklearn"),
        ("flavors: {sklearn: {}}\nsignature: 7", "signature"),
        ("flavors: {sklearn: {}}\nsignature: {inputs: '{'}", "signature"),
        ("flavors: {sklearn: {}}\nsignature: {inputs: '[1]'}", "signature"),
        ("flavors: {sklearn: {}}\nsignature: {inputs: '[]', outputs: [1]}", "signature"),
        (f"flavors: {{sklearn: {{}}}}\nsignature: {{inputs: '{'[' * 3000}'}}", "signature"),
        ("flavors: !!python/object/apply:os.system ['true']", "YAML"),
        ("[" * 3000, "YAML"),
        ("made: 2026-99-99", "YAML"),
        ("made: !!timestamp today", "YAML"),
        ("size: " + "9" * 5000, "YAML"),
        ('flavors: {sklearn: {}, "\\ud800": {}}', "surrogate"),
        ('flavors: {sklearn: {}}\nmetadata: {task: "\\0"}', "NUL"),
    ],
)
def test_what_is_no_artefact_is_refused(house, registry, mlmodel, word):
    """A tree whose MLmodel cannot be meant is refused before anything is written."""
    with pytest.raises(InvalidInput, match=word):
        registry.versions.register(house.request(signature=None), house.tree(mlmodel=mlmodel))
    assert house.artifacts.find("credit/id-1") is None


def test_a_tree_without_a_descriptor_is_refused(house, registry, tmp_path):
    """A directory without MLmodel is no artefact."""
    with pytest.raises(InvalidInput, match="MLmodel"):
        registry.versions.register(house.request(), tmp_path)


def test_the_signature_of_the_descriptor_is_taken(house, registry):
    """Without a signature in the request the one in MLmodel counts; without either it is None."""
    text = 'flavors: {sklearn: {}}\nsignature: {inputs: \'[{"type": "double", "name": "age"}]\', outputs: null}\n'
    record = registry.versions.register(house.request(signature=None), house.tree(mlmodel=text))
    assert record.signature.names == ("age",)
    assert registry.versions.register(house.request(signature=None), house.tree()).signature is None


def test_parent_and_baseline_must_exist(house, registry):
    """A version cannot descend from one that does not exist."""
    with pytest.raises(VersionNotFound):
        registry.versions.register(house.request(parent=house.ref(9)), house.tree())
    improvement = Improvement(baseline=house.ref(9), contributor="0x" + "a" * 40, delta_metrics={})
    with pytest.raises(VersionNotFound):
        registry.versions.register(house.request(improvement=improvement), house.tree())


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.DEVELOPMENT])
def test_nothing_is_born_before_users(house, stage):
    """A version is born in development and nowhere else."""
    with pytest.raises(InvalidValue, match="mendel stage"):
        house.request(stage=stage)


def test_a_contributor_is_an_address():
    """A contributor reads 0x and 40 hex digits."""
    with pytest.raises(InvalidValue):
        Improvement(baseline=VersionRef(ModelName("m"), 1), contributor="ann", delta_metrics={})


def test_absence_is_not_an_outage(house, registry):
    """A missing uuid is VersionNotFound; a store that is away is StoreUnavailable: never the same answer."""

    class Away:
        def read(self, work):
            raise StoreUnavailable("The database does not answer.")

    uuid = VersionUuid("m-" + "0" * 32)
    with pytest.raises(VersionNotFound):
        registry.versions.by_uuid(uuid)
    registry = house.over(unit=Away())
    with pytest.raises(StoreUnavailable):
        registry.versions.by_uuid(uuid)


def test_a_missing_version_says_which_there_are(house, registry):
    """The error names the versions there are."""
    house.register()
    with pytest.raises(VersionNotFound, match="credit has the versions 1 to 1"):
        registry.versions.get(house.ref(2))


class TestResult:
    """The frozen result, in the words of the contract."""

    BASE = (
        "model_id",
        "model_name",
        "version",
        "model_uuid",
        "model_uri",
        "run_id",
        "signature",
        "metadata",
        "registration_timestamp",
        "flavors",
        "artifact_path",
        "mlflow_version",
    )

    def registered(self, house, **changes):
        return house.registry.versions.registered(
            house.registry.versions.register(house.request(**changes), house.tree()).ref
        )

    def test_a_baseline(self, house):
        """A baseline has its type and says that it is one."""
        metadata = RegistrationMetadata(
            model_type="classification", is_baseline=True, registration_time=house.clock()
        ).beside({"features": ["age"], "note": "x" * 10_000, "is_baseline": False})
        result = self.registered(house, metadata=metadata)
        tree = result.as_dict()
        assert sorted(tree) == sorted([*self.BASE, "model_type", "is_baseline"])
        assert (tree["model_id"], tree["version"], tree["is_baseline"]) == ("credit/1", 1, True)
        assert tree["model_uri"] == f"models:/{result.model_uuid}"
        assert tree["metadata"]["hokusai_version"] == "1.0"
        assert len(tree["metadata"]["note"]) == 10_000
        assert tree["signature"].startswith("inputs:")
        assert list(tree["flavors"]) == ["python_function", "sklearn"]

    def test_an_improved_model(self, house):
        """An improved model has its baseline, contributor and deltas."""
        house.registry.versions.register(house.request(), house.tree())
        improvement = Improvement(baseline=house.ref(1), contributor="0x" + "a" * 40, delta_metrics={"f1": 0.03})
        tree = self.registered(
            house,
            improvement=improvement,
            metadata=RegistrationMetadata(
                model_type="classification", is_baseline=False, registration_time=house.clock()
            ).beside(),
        ).as_dict()
        assert sorted(tree) == sorted([*self.BASE, "baseline_id", "contributor", "delta_metrics"])
        assert tree["baseline_id"] == "credit/1"

    def test_a_model_without_signature(self, house):
        """Old calls without signature keep working: it is null."""
        assert self.registered(house, signature=None).as_dict()["signature"] is None

    def test_names(self):
        """Names follow the type, whatever slug it is."""
        assert default_name("my-type", baseline=True) == "hokusai_my-type_baseline"


def test_lineage_sums_up_over_the_baseline(house, registry):
    """The lineage has each version's delta and the cumulative improvement, and says what is only claimed."""
    registry.versions.register(house.request(), house.tree())
    for number, contributor, delta in ((1, "a", 0.03), (2, "b", 0.02)):
        improvement = Improvement(
            baseline=house.ref(number), contributor="0x" + contributor * 40, delta_metrics={"f1": delta}
        )
        registry.versions.register(house.request(improvement=improvement), house.tree())
    lineage = registry.versions.lineage(house.model)
    assert [entry.cumulative.get("f1", 0.0) for entry in lineage] == pytest.approx([0.0, 0.03, 0.05])
    assert [entry.claimed for entry in lineage] == [False, True, True]
    contributors = registry.versions.contributors()
    assert [(c.address[2], c.improvement["f1"]) for c in contributors] == [("a", 0.03), ("b", 0.02)]
    with pytest.raises(ModelNotFound):
        registry.versions.lineage(ModelName("nobody"))


def test_an_idempotency_key_is_bounded():
    """An empty or endless key is refused."""
    for key in ("", "x" * 257):
        with pytest.raises(InvalidValue):
            Registration(model=ModelName("m"), flavor="sklearn", task="binary", idempotency_key=key)


RELEASE = "credit-v1.0.0-mlserver-762e7f2"
IMAGE = VersionImage(reference="risk/credit:v1.0.0", digest=Digest(f"sha256:{'7' * 64}"), release_tag=RELEASE)


class TestImages:
    def test_a_version_is_registered_with_its_image(self, house, registry):
        """The image stands with the version, gives it its release, and reaches servers and the ledger by its digest."""
        record = registry.versions.register(house.request(image=IMAGE), house.tree())
        assert (record.image, record.release_tag) == (IMAGE, RELEASE)
        assert record.served.image_digest == IMAGE.digest
        assert registry.versions.by_image(IMAGE.digest) == (record,)
        (event,) = house.events("model.registered")
        assert event.data["image_digest"] == IMAGE.digest

    def test_an_image_is_recorded_later(self, house, registry):
        """A version that is registered gets its image, with an event; the same image again changes nothing."""
        ref = registry.versions.register(house.request(), house.tree()).ref
        record = registry.versions.record_image(ref, IMAGE, by="ann")
        assert record == registry.versions.get(ref) == registry.versions.record_image(ref, IMAGE, by="ann")
        assert (record.image, record.release_tag) == (IMAGE, RELEASE)
        (event,) = house.events("model.image_recorded")
        assert event.data["image"]["digest"] == IMAGE.digest
        assert event.data["former_digest"] is None

    def test_an_image_is_rebuilt(self, house, registry):
        """Another image of the same release takes the place of the former one, which the event names."""
        ref = registry.versions.register(house.request(image=IMAGE), house.tree()).ref
        rebuilt = VersionImage(reference=IMAGE.reference, digest=Digest(f"sha256:{'8' * 64}"), release_tag=RELEASE)
        assert registry.versions.record_image(ref, rebuilt, by="ann").image == rebuilt
        assert house.events("model.image_recorded")[0].data["former_digest"] == IMAGE.digest
        assert registry.versions.by_image(IMAGE.digest) == ()

    def test_an_image_of_another_release_is_refused(self, house, registry):
        """The release of image and version are one, where both are known; otherwise nothing is changed."""
        other = "credit-v2.0.0-mlserver-762e7f2"
        with pytest.raises(Conflict, match=r"v1\.0\.0.*v2\.0\.0"):
            house.request(image=IMAGE, release_tag=other)
        record = registry.versions.register(house.request(release_tag=other), house.tree())
        with pytest.raises(Conflict):
            registry.versions.record_image(record.ref, IMAGE, by="ann")
        assert registry.versions.get(record.ref) == record
        unknown = VersionImage(reference="risk/credit:latest", digest=IMAGE.digest)
        assert registry.versions.record_image(record.ref, unknown, by="ann").release_tag == other

    def test_an_image_of_nobody_is_refused(self, house, registry):
        """There must be a version."""
        with pytest.raises(VersionNotFound):
            registry.versions.record_image(house.ref(9), IMAGE, by="ann")
