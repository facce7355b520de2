"""Registering fitted models by one call, against a hub in this process."""

from __future__ import annotations

import enum
import pickle
import subprocess
import time
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path

import mlflow.models
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import mendel
from mendel.adapters.arrow import read_table, write_table
from mendel.app.directory import DataDirectory
from mendel.errors import AlreadyExists, InvalidInput, InvalidValue, NotReady, Unsupported, VersionNotFound
from mendel.retraining import fingerprint
from mendel.serving import infer_signature, write_artifact
from mendel.values.data_frames import as_table
from support.principals import ME
from support.remote_peers import remote_peer

CONTRIBUTOR = "0x" + "a1" * 20
FRAME = pd.DataFrame({"age": [31.0, 42.0, 25.0, 60.0] * 10, "income": [1.0, 3.0, 2.0, 5.0] * 10})
OUTCOME = np.array([0, 1, 0, 1] * 10)
MODEL = LogisticRegression().fit(FRAME, OUTCOME)
LABELLED = FRAME.assign(bought=OUTCOME)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("hub") / ".mendel"


@pytest.fixture(scope="module")
def client(directory):
    with mendel.connect(directory=str(directory)) as client:
        yield client


@pytest.fixture
def baseline(client):
    """Registers a model of its own for each test."""

    def register(name, **changes):
        return client.register_baseline(
            **{"model": MODEL, "model_type": "classification", "input_example": FRAME[:1], "name": name} | changes
        )

    return register


def test_a_baseline_is_told_in_the_words_of_the_contract(client):
    """One call answers every field of the contract, under the name of its type."""
    before = datetime.now(UTC)
    result = client.register_baseline(
        model=MODEL,
        model_type="classification",
        metadata={"dataset_size": 3, "features": ["age", "income"]},
        signature=infer_signature(FRAME),
        input_example=FRAME[:1],
        code_paths=None,
    )
    told = result.as_dict()
    assert set(told) == {
        *("model_id", "model_name", "version", "model_uuid", "model_uri", "run_id", "signature", "metadata"),
        *("registration_timestamp", "flavors", "artifact_path", "mlflow_version", "model_type", "is_baseline"),
    }
    assert told["model_id"] == "hokusai_classification_baseline/1"
    assert told["model_uri"] == f"models:/{told['model_uuid']}"
    assert told["is_baseline"] is True
    assert "income" in told["signature"]
    assert told["metadata"]["dataset_size"] == 3
    assert told["metadata"]["hokusai_version"] == "1.0"
    assert datetime.fromisoformat(told["metadata"]["registration_time"]) >= before
    assert client.get_model_by_uuid(result.model_uuid).model_id == result.model_id


def test_an_improved_model_names_its_baseline(client, baseline):
    """An improved model carries its baseline, its contributor and its claim, and stands in the lineage."""
    first = baseline("credit")
    result = client.register_improved_model(
        model=MODEL,
        baseline_id=first.model_id,
        delta_metrics={"f1": 0.03},
        contributor=CONTRIBUTOR,
        input_example=FRAME[:1],
        name="credit",
    )
    told = result.as_dict()
    assert (told["baseline_id"], told["contributor"], told["delta_metrics"]) == ("credit/1", CONTRIBUTOR, {"f1": 0.03})
    assert told["metadata"]["is_baseline"] is False
    assert told["metadata"]["model_type"] == "classification"
    assert [entry.ref.number for entry in client.lineage("credit")] == [1, 2]


def test_an_improved_model_is_named_after_the_type_of_its_baseline(client, baseline):
    """Without a name it is hokusai_<type>_improved, with the type of its baseline."""
    first = baseline("leads", model_type="lead_scoring")
    result = client.register_improved_model(
        model=MODEL, baseline_id=first.model_id, delta_metrics={}, contributor=CONTRIBUTOR
    )
    assert result.model_name == "hokusai_lead_scoring_improved"


def test_a_baseline_that_is_not_there_is_refused(client):
    """An improvement on nothing is no version."""
    with pytest.raises(VersionNotFound):
        client.register_improved_model(
            model=MODEL, baseline_id="nobody/1", delta_metrics={"f1": 0.1}, contributor=CONTRIBUTOR
        )
    assert "hokusai_classification_improved" not in client.models()


def test_a_contributor_is_an_address(client, baseline):
    """Whoever is not 0x and 40 hex digits did not contribute."""
    first = baseline("contributed")
    with pytest.raises(InvalidValue, match="contributor"):
        client.register_improved_model(
            model=MODEL, baseline_id=first.model_id, delta_metrics={}, contributor="ann", name="contributed"
        )


def test_mlflows_own_signature_comes_back_as_mlflow_prints_it(client, baseline):
    """Inputs, outputs and params of what mlflow.models.infer_signature gives are kept."""
    signature = mlflow.models.infer_signature(FRAME, OUTCOME, params={"threshold": 0.5})
    result = baseline("signed", signature=signature, input_example=None)
    assert result.signature == str(signature)
    kept = client.version(result.model_id).signature
    assert kept.to_mlflow() == signature.to_dict()


def test_an_inferred_signature_names_the_outputs(baseline):
    """Without a given signature, the type of the answers is part of the text."""
    assert "outputs: \n  [long (required)]" in baseline("inferred").signature


def test_a_result_and_a_reference_have_a_name_and_a_version(client, baseline):
    """Both are told under the names that callers try first."""
    result = baseline("named")
    ref = client.version(result.model_id).ref
    assert (result.name, result.version) == (ref.name, ref.version) == ("named", 1)


class Colour(enum.Enum):
    """A value of the maker's."""

    RED = "red"


def test_metadata_may_hold_what_makers_have(client, baseline):
    """Times become ISO text, paths text, enumeration members and numpy scalars their values."""
    given = {
        "when": pd.Timestamp("2024-01-01"),
        "day": date(2024, 1, 2),
        "file": Path("rows.csv"),
        "colour": Colour.RED,
        "rows": np.int64(3),
        "days": [np.datetime64("2024-01-03")],
    }
    kept = client.version(baseline("described", metadata=given).model_id).metadata
    assert {key: kept[key] for key in given} == {
        "when": "2024-01-01T00:00:00",
        "day": "2024-01-02",
        "file": "rows.csv",
        "colour": "red",
        "rows": 3,
        "days": ["2024-01-03"],
    }


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"model": LogisticRegression(C=0.1).fit(FRAME, OUTCOME)}, "artefact"),
        ({"metrics": {"f1": 0.4}}, "metrics"),
        ({"metadata": {"source": "crm"}}, "metadata"),
        ({"version_info": {"owner": "bob"}}, "owner"),
    ],
)
def test_a_conflict_of_a_key_names_what_differs(client, baseline, changes, differs):
    """Other content under the same idempotency key is refused by name."""
    name = f"key-{differs}"
    baseline(name, idempotency_key="k")
    with pytest.raises(AlreadyExists, match=f"with another {differs}"):
        baseline(name, idempotency_key="k", **changes)
    assert len(client.versions(name)) == 1


def test_the_checkout_of_the_training_script_is_kept(client, baseline, tmp_path, monkeypatch):
    """Commit, uncommitted changes and origin, without its credentials, are the provenance of a version."""

    def git(*arguments):
        said = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org", *arguments]
        return subprocess.run(said, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "train.py").write_text("")
    git("add", "train.py")
    git("commit", "-qm", "Train")
    git("remote", "add", "origin", "https://ann:secret@git.example.org/train.git")
    (tmp_path / "train.py").write_text("changed")
    monkeypatch.chdir(tmp_path)
    provenance = client.version(baseline("from-git").model_id).provenance
    assert provenance.git_commit_hash == git("rev-parse", "HEAD")
    assert provenance.git_dirty is True
    assert provenance.git_origin == "https://git.example.org/train.git"
    card = client.card("from-git/1")
    assert "of https://git.example.org/train.git, with uncommitted changes" in card
    assert f", scikit-learn {version('scikit-learn')} |" in card


def test_no_checkout_is_no_provenance(client, baseline, tmp_path, monkeypatch):
    """Outside of a git checkout a model registers without a word about git."""
    monkeypatch.chdir(tmp_path)
    assert client.version(baseline("no-git").model_id).provenance.git_commit_hash is None


def test_old_calls_without_signature_and_example_keep_working(baseline):
    """Then the signature is null."""
    assert baseline("old", input_example=None).as_dict()["signature"] is None


@pytest.mark.parametrize("kind", ["frame", "table", "parquet", "csv"])
def test_training_data_are_kept_and_known_again(client, directory, baseline, tmp_path, kind):
    """They become a Parquet file beside the version, a drift reference without the target, and a fingerprint."""
    table = as_table(LABELLED)
    path = tmp_path / f"rows.{kind}"
    if kind in {"parquet", "csv"}:
        write_table(table, path)
    given = {"frame": LABELLED, "table": table}.get(kind, path)
    result = baseline(f"trained-{kind}", input_example=None, training_data=given, target="bought")
    record = client.version(result.model_id)
    assert record.training_fingerprint == fingerprint(table).digest
    assert record.provenance.training_dataset_size == len(LABELLED)
    assert record.reference_digest is not None
    assert record.signature.names == ("age", "income")
    (kept,) = DataDirectory(directory).artifacts.rglob(f"{result.model_uuid}/**/data/training.parquet")
    assert fingerprint(read_table(kept)) == fingerprint(table)


def test_a_target_that_is_no_column_is_refused(client, baseline):
    """The error names the columns there are."""
    with pytest.raises(InvalidInput, match=r"'sold'.*age, income, bought"):
        baseline("no-target", training_data=LABELLED, target="sold")
    assert "no-target" not in client.models()


def test_the_same_content_with_one_key_is_one_version(client, baseline):
    """Twice registered, once there; other content under the key is refused."""
    first = baseline("once", idempotency_key="k-1")
    assert baseline("once", idempotency_key="k-1").model_uuid == first.model_uuid
    with pytest.raises(AlreadyExists):
        baseline("once", idempotency_key="k-1", model=LogisticRegression(C=0.1).fit(FRAME, OUTCOME))
    assert len(client.versions("once")) == 1


class Oracle:
    """Predicts, and is no estimator."""

    def predict(self, rows):
        return rows


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": Oracle()}, r"Oracle cannot be registered.*scikit-learn"),
        ({"model": LogisticRegression}, r"LogisticRegression cannot be registered"),
        ({"flavor": "onnx"}, r"'onnx'.*Its flavour is 'sklearn'"),
    ],
)
def test_what_cannot_be_registered_is_said(client, baseline, changes, said):
    """The error names what is supported, and no version is made."""
    with pytest.raises(Unsupported, match=said):
        baseline("unsupported", **changes)
    assert "unsupported" not in client.models()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": LogisticRegression()}, "not fitted"),
        ({"governance": {"bias": True}}, "unknown key 'bias'.*bias_check_passed"),
        ({"version_info": {"owned": "ann"}}, "did you mean 'owner'"),
        ({"expectations": {"latency": 3.0}}, "latency_p"),
        ({"signature": 7}, "type int is not a model signature"),
        ({"target": "bought"}, "without training_data"),
        ({"metrics": {"auc": float("nan"), "f1": 0.5}}, "metric 'auc' is nan"),
        ({"metrics": {"auc": np.inf}}, "metric 'auc' is inf"),
        ({"metrics": {"auc": "high"}}, "metric 'auc' is 'high'"),
        ({"metadata": {"model": {"inner": object()}}}, r"metadata\.model\.inner is a builtins\.object"),
        ({"code_paths": ["nowhere.py"]}, r"nowhere\.py does not exist"),
    ],
)
def test_bad_details_make_no_version(client, baseline, changes, said):
    """Everything is checked before anything is registered."""
    with pytest.raises(InvalidInput, match=said):
        baseline("bad", **changes)
    assert "bad" not in client.models()


def test_what_the_maker_says_stands_in_the_record(client, baseline):
    """Version info, expectations, metrics, release and governance are kept, the approval with who gave it."""
    result = baseline(
        "told",
        version_info={"owner": "ann", "team": "risk", "description": "Who buys", "tags": {"tier": "1"}},
        expectations={"latency_p95_ms": 12.0},
        metrics={"f1": 0.9},
        governance={"policy_compliant": True, "bias_check_passed": False},
    )
    record = client.version(result.model_id)
    assert (record.owner, record.team, record.description, record.tags) == ("ann", "risk", "Who buys", {"tier": "1"})
    assert record.framework == "sklearn"
    assert record.expectations.latency_p95_ms == 12.0
    assert record.metrics == {"f1": 0.9}
    assert record.governance.policy_compliant.by == ME
    assert record.governance.bias_check_passed is None


def test_a_registered_model_can_be_promoted(client, baseline):
    """Approved and moved to the sandbox it goes into production: a model without gates needs no report."""
    result = baseline("served", governance={"policy_compliant": True, "bias_check_passed": True})
    client.change_stage(result.model_id, "sandbox")
    assert client.promote(result.model_id).production == 1


def test_a_regressor_of_another_type_is_a_regression(client):
    """The task of a type that is none comes of the estimator."""
    fitted = LinearRegression().fit(FRAME, FRAME["income"])
    result = client.register_baseline(model=fitted, model_type="ranking", input_example=FRAME[:2])
    assert result.model_name == "hokusai_ranking_baseline"
    assert client.version(result.model_id).task == "regression"


def test_the_artefact_is_the_model_that_was_given(directory, baseline):
    """What is served answers as the model did."""
    result = baseline("same")
    (stored,) = DataDirectory(directory).artifacts.rglob(f"{result.model_uuid}/**/model.pkl")
    restored = pickle.loads(stored.read_bytes())  # noqa: S301 - written above
    assert (restored.predict(FRAME) == MODEL.predict(FRAME)).all()


@pytest.mark.race
def test_registering_takes_less_than_what_it_replaces(baseline):
    """A registration stays below the two seconds of the registries before."""
    start = time.monotonic()
    baseline("quick")
    assert time.monotonic() - start < 2


def test_a_remote_model_is_registered_like_a_fitted_one(client, tmp_path):
    """Its servers tell columns and task; with a signature and a task nobody is asked, and rows give exact types."""
    with remote_peer() as peer:
        peer.serve("scores", tmp_path, write_artifact(MODEL, tmp_path, training=FRAME))
        model = mendel.RemoteModel(servers=(peer.address(),), classes=(0, 1))
        told = client.register_baseline(model=model, model_type="lead_scoring", name="scores")
    record = client.version(told.model_id)
    assert (record.flavor, record.task, record.signature.names) == ("remote", "classification", ("age", "income"))
    assert str(record.parity) == "not measured: the model runs on other servers"
    with pytest.raises(NotReady, match="cannot be reached"):
        client.register_baseline(model=model, model_type="lead_scoring", name="scores")
    offline = client.register_baseline(
        model=model, model_type="regression", name="scores", signature=infer_signature(as_table(FRAME))
    )
    rows = client.register_baseline(model=model, model_type="regression", name="scores", input_example=FRAME)
    assert [client.version(one.model_id).task for one in (offline, rows)] == ["regression", "regression"]
