"""The contract of ArtifactStore, over a directory and over MLflow on SQLite."""

from __future__ import annotations

import os

import pytest

from mendel.adapters.memory.artifacts import MemoryArtifacts
from mendel.adapters.mlflow import MlflowArtifacts
from mendel.errors import ArtifactNotFound
from mendel.registry import Mirror, MirroredAlias, Publication
from mendel.values import ModelName, Stage, VersionUuid
from mendel.values.directory_trees import tree_digest

CREDIT = ModelName("credit")


@pytest.fixture(scope="module")
def mlflow_store(tmp_path_factory):
    root = tmp_path_factory.mktemp("mlflow")
    return MlflowArtifacts(f"sqlite:///{root}/mlflow.db", root / "artifacts")


@pytest.fixture(params=["memory", "mlflow"])
def store(request, tmp_path):
    if request.param == "memory":
        return MemoryArtifacts(tmp_path / "kept")
    return request.getfixturevalue("mlflow_store")


@pytest.fixture
def model(request):
    """A model of this test alone, since MLflow's database is made once for all of them."""
    return ModelName("m-" + request.node.name.split("[")[0].removeprefix("test_")[:100])


@pytest.fixture
def tree(tmp_path):
    directory = tmp_path / "tree"
    (directory / "mendel").mkdir(parents=True)
    (directory / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    (directory / "model.joblib").write_bytes(b"weights")
    (directory / "mendel" / "reference.json").write_text("{}")
    return directory


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "rows"
    directory.mkdir()
    (directory / "training.parquet").write_bytes(b"rows")
    return directory


def publication(model, key="1", **changes):
    return Publication(key=f"{model}/{key}", model=model, stage=Stage.DEVELOPMENT, **changes)


def test_what_was_published_comes_back_unchanged(store, model, tree, data):
    """The kept directory holds exactly the files of the tree, and those of the data below data/."""
    published = store.publish(publication(model), tree, data=data)
    kept = store.tree(published.uuid)
    assert tree_digest(kept, exclude=("data",)) == tree_digest(tree)
    assert tree_digest(kept / "data") == tree_digest(data)


def test_versions_count_from_one(store, model, tree):
    """Each key of a model gets the next number and a uuid of its own."""
    published = [store.publish(publication(model, key), tree) for key in ("a", "b", "c")]
    assert [p.number for p in published] == [1, 2, 3]
    assert len({p.uuid for p in published}) == 3


def test_the_same_key_is_published_once(store, model, tree):
    """Publishing a key again answers what it answered, and numbers nothing."""
    first = store.publish(publication(model), tree)
    assert store.publish(publication(model), tree) == first
    assert store.find(first.key) == first
    assert store.publish(publication(model, "2"), tree).number == 2


def test_keys_may_hold_anything(store, model, tree):
    """A key with quotes and backticks finds its own publication and no other."""
    odd = store.publish(publication(model, "it's `odd` %' OR 1=1"), tree)
    assert store.find(odd.key) == odd
    assert store.find(f"{model}/it's") is None


def test_an_unknown_key_finds_nothing(store, model):
    """What was never published is None, not an error."""
    assert store.find(f"{model}/never") is None


def test_an_unknown_uuid_has_no_tree(store):
    """A uuid nobody published is an ArtifactNotFound."""
    with pytest.raises(ArtifactNotFound):
        store.tree(VersionUuid("m-" + "0" * 32))


def test_what_is_discarded_is_gone(store, model, tree):
    """Discarding deletes version and files; doing it again does nothing."""
    published = store.publish(publication(model), tree)
    where = store.tree(published.uuid)
    store.discard(published.key)
    store.discard(published.key)
    assert store.find(published.key) is None
    assert not where.exists()
    assert store.foreign(model, known=frozenset()) == ()


def test_only_the_named_uuid_is_discarded(store, model, tree):
    """A discard that names another uuid leaves what stands under the key."""
    published = store.publish(publication(model), tree)
    store.discard(published.key, uuid=VersionUuid("m-" + "0" * 32))
    assert store.find(published.key) == published


def test_a_discarded_key_can_be_published_again(store, model, tree):
    """After a discard the key is free."""
    first = store.publish(publication(model), tree)
    store.discard(first.key)
    again = store.publish(publication(model), tree)
    assert tree_digest(store.tree(again.uuid)) == tree_digest(tree)


def test_alias_and_tags_follow_the_mirror(store, model, tree):
    """A mirrored state is read back as it was written, moved, and taken away."""
    for key in ("a", "b"):
        store.publish(publication(model, key), tree)
    first = Mirror(production=1, generation=1, stages={1: Stage.PRODUCTION, 2: Stage.SANDBOX})
    second = Mirror(production=2, generation=2, stages={1: Stage.SANDBOX, 2: Stage.PRODUCTION})
    nothing = Mirror(production=None, generation=3, stages={1: Stage.SANDBOX, 2: Stage.DEPRECATED})
    for state in (first, first, second, nothing, nothing):
        assert store.mirror(model, state) == state


def test_alias_and_tags_are_read_back(store, model, tree):
    """What was mirrored last is shown for the model, and its alias among those of all models."""
    for key in ("a", "b"):
        store.publish(publication(model, key), tree)
    state = Mirror(production=2, generation=3, stages={1: Stage.SANDBOX, 2: Stage.PRODUCTION})
    store.mirror(model, state)
    assert store.mirrored(model, known=frozenset({1, 2})) == state
    assert store.mirrored(model, known=frozenset({2})).stages == {2: Stage.PRODUCTION}
    assert store.aliases()[model] == MirroredAlias(production=2, generation=3)


def test_a_model_nobody_published_shows_nothing(store):
    """Reading alias and tags of a model that does not exist is not an error."""
    nobody = ModelName("nobody")
    assert store.mirrored(nobody, known=frozenset({1})) == Mirror(production=None, generation=0, stages={})
    assert nobody not in store.aliases()


def test_unknown_numbers_are_foreign(store, model, tree):
    """Versions whose numbers the registry does not know are listed with their source."""
    store.publish(publication(model, "a"), tree)
    born_outside = store.publish(publication(model, "b"), tree)
    (foreign,) = store.foreign(model, known=frozenset({1}))
    assert (foreign.number, foreign.uuid) == (2, born_outside.uuid)
    assert store.foreign(model, known=frozenset({1, 2})) == ()


def test_a_model_nobody_published_has_no_foreign_versions(store):
    """Asking for a model that does not exist is not an error."""
    assert store.foreign(ModelName("nobody"), known=frozenset()) == ()


def test_metrics_and_tags_are_kept(store, model, tree):
    """Metrics and tags of the maker are taken, NaN included."""
    metrics = {"f1": 0.9, "auc": float("nan")}
    assert store.publish(publication(model, metrics=metrics, tags={"colour": "blue"}), tree).number == 1


class TestMlflow:
    """What others see of it through MLflow's own client."""

    @pytest.fixture
    def client(self, mlflow_store):
        return mlflow_store._client

    def test_a_begun_publication_is_finished(self, mlflow_store, client, tree):
        """A logged model that was left pending is completed by the next publish of its key, not made twice."""
        begun = publication(ModelName("begun"))
        pending = mlflow_store._begin(begun)
        published = mlflow_store.publish(begun, tree)
        assert published.uuid == pending.model_id
        assert (mlflow_store.tree(published.uuid) / "model.joblib").read_bytes() == b"weights"

    def test_a_publication_without_its_version_is_finished(self, mlflow_store, client, tree):
        """A logged model that is READY but has no version yet gets exactly one."""
        wanted = publication(ModelName("headless"))
        logged = mlflow_store._begin(wanted)
        client.finalize_logged_model(logged.model_id, "READY")
        assert mlflow_store.find(wanted.key) is None
        first = mlflow_store.publish(wanted, tree)
        assert mlflow_store.publish(wanted, tree) == first
        assert len(client.search_model_versions("name='headless'")) == 1

    def test_the_alias_points_at_production(self, mlflow_store, client, tree):
        """MLflow resolves models:/NAME@production to the production version, tagged with its stage."""
        model = ModelName("aliased")
        published = mlflow_store.publish(publication(model), tree)
        mlflow_store.mirror(model, Mirror(production=1, generation=7, stages={1: Stage.PRODUCTION}))
        version = client.get_model_version_by_alias("aliased", "production")
        assert version.source == f"models:/{published.uuid}"
        assert version.tags["mendel.stage"] == "production"
        assert client.get_registered_model("aliased").tags["mendel.generation"] == "7"

    def test_the_process_keeps_its_tracking_uri(self, mlflow_store, tree):
        """Publishing leaves MLflow's global tracking URI and its environment variable as they were."""
        import mlflow  # noqa: PLC0415 - takes seconds, and only here

        before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
        mlflow_store.publish(publication(ModelName("global")), tree)
        assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before

    def test_a_second_process_sees_the_same_store(self, mlflow_store, client, tree):
        """Opening the same store again finds what was published."""
        published = mlflow_store.publish(publication(ModelName("shared")), tree)
        again = MlflowArtifacts(mlflow_store._uri, tree.parent / "elsewhere")
        assert again.find(published.key) == published
        assert again.tree(published.uuid) == mlflow_store.tree(published.uuid)
