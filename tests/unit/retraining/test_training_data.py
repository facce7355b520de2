"""Which rows a run uses, and whether it can start: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidInput, InvalidPolicy
from mendel.gates import GatePolicy, RunCause
from mendel.registry import PolicyDocument, VersionRecord
from mendel.retraining import JobLimits, LabelSupply, Ready, RetrainingPolicy, Waiting, may_start, parse_bytes
from mendel.retraining.entities import Asked, Replayed, Replays
from mendel.retraining.label_supply import evaluation_start, labels_needed
from mendel.retraining.training_data import (
    TRAINED_UNTIL,
    Policies,
    divide,
    recent_rows,
    schema_violations,
    training_rows,
)
from mendel.values import (
    ColumnSpec,
    ColumnType,
    Digest,
    ModelName,
    Signature,
    Stage,
    Table,
    VersionRef,
    VersionUuid,
    from_builtins,
    from_mapping,
    to_micros,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SIGNATURE = Signature.of_columns((ColumnSpec(name="x", type=ColumnType.DOUBLE),))
BODY = {"monitoring": {"target": "y"}, "gates": {"samples": 10}, "retraining": {"min_labels": 20, "window": "1h"}}


def version(**metadata):
    return VersionRecord(
        ref=VersionRef(ModelName("m"), 1),
        uuid=VersionUuid("m-" + "0" * 32),
        run_id=None,
        stage=Stage.PRODUCTION,
        flavor="mendel",
        task="classification",
        artifact_digest=Digest("sha256:" + "0" * 64),
        registered_at=NOW,
        idempotency_key="k",
        signature=SIGNATURE,
        metadata=metadata,
    )


def policies(**retraining):
    return Policies.of(
        PolicyDocument(model=ModelName("m"), body={**BODY, "retraining": {**BODY["retraining"], **retraining}})
    )


@dataclass
class Rows:
    """A log of *count* rows, one a minute up to now; every second is labelled; a few are not anybody's answers."""

    count: int = 60

    def predictions(self, model, window, *, columns=None):
        at = np.array([to_micros(NOW - timedelta(minutes=self.count - place)) for place in range(self.count)])
        flags = np.arange(self.count)
        table = Table(
            {
                "event_time": at,
                "shadow": flags % 10 == 3,
                "simulated": flags % 10 == 5,
                "error": np.array(["boom" if flag % 10 == 7 else None for flag in flags], dtype=object),
                "feature.x": flags.astype(float),
                "label": (flags % 3 == 0).astype(float),
            }
        )
        chosen = table.take((at >= to_micros(window.start)) & (at < to_micros(window.end)))
        return chosen if columns is None else chosen.select(columns)

    def labelled(self, model, window):
        rows = self.predictions(model, window)
        return rows.take(rows["feature.x"] % 2 == 1)


def read(since=None, production=None, rows=None, **retraining):
    policy = policies(**retraining)
    return recent_rows(rows or Rows(), production or version(), policy.retraining, now=NOW, since=since), policy


@pytest.mark.parametrize(
    ("have", "coverage", "said"),
    [
        (199, 1.0, "waiting for labels: 199 of 200"),
        (200, 0.2999, "waiting for labels: a share of 0.30 of the rows is labelled, 0.30 is needed"),
        (200, 0.30, None),
    ],
)
def test_a_run_that_cannot_start_says_what_is_missing(have, coverage, said):
    """Exactly at its bounds a run may start; below, it says why and counts."""
    verdict = may_start(LabelSupply(have=have, need=200, coverage=coverage, need_coverage=0.30))
    assert verdict == Ready() if said is None else isinstance(verdict, Waiting) and verdict.why == said


def test_need_covers_the_gates():
    """So many labels are asked for that the evaluation share alone has the samples that the gates want."""
    assert labels_needed(RetrainingPolicy(), GatePolicy().bounds) == 400
    assert labels_needed(RetrainingPolicy(evaluation_share=0.8), GatePolicy().bounds) == 250
    assert labels_needed(RetrainingPolicy(min_labels=1000), GatePolicy().bounds) == 1000


def test_shadow_failed_and_simulated_rows_do_not_count():
    """Only rows that somebody was answered are trained on and counted; simulated ones where the policy says so."""
    plain, _ = read()
    assert (plain.fresh, len(plain.answered)) == (12, 42)
    marked, _ = read(include_simulated=True)
    assert (marked.fresh, len(marked.answered)) == (18, 48)


def test_what_production_was_trained_on_is_not_used_again():
    """Rows before the cut of the production version's own training are neither trained on nor judged by."""
    cut = NOW - timedelta(minutes=20)
    rows, _ = read(production=version(**{TRAINED_UNTIL: cut.isoformat()}))
    assert rows.labelled["event_time"].min() >= to_micros(cut)
    assert rows.fresh == len(rows.labelled) == 4


def test_since_divides_only_the_fresh_rows():
    """With a known beginning of the change, older rows are trained on, and fresh ones are divided and expected."""
    since = NOW - timedelta(minutes=30)
    rows, policy = read(since=since)
    assert (len(rows.labelled), rows.fresh) == (12, 6)
    parts = divide(rows, policy, SIGNATURE, since=since)
    assert (len(parts.recent), len(parts.evaluation), len(parts.expected)) == (9, 3, 6)
    assert parts.recent["x"].max() < parts.evaluation["x"].min()
    assert parts.expected["x"].tolist() == rows.labelled["feature.x"][-6:].tolist()


def test_without_since_the_evaluation_is_what_is_expected():
    """When nobody says when the change began, the latest rows stand for what comes."""
    rows, policy = read()
    parts = divide(rows, policy, SIGNATURE, since=None)
    assert parts.expected is parts.evaluation
    assert parts.answered >= len(parts.evaluation)
    assert set(parts.evaluation.names) == {"x", "y"}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_no_training_row_is_as_new_as_an_evaluation_row(times, share):
    """Rows of one instant stay on one side, and the evaluation has at least its share."""
    ordered = np.sort(np.array(times, dtype=np.int64))
    first = evaluation_start(ordered, share)
    assert first == 0 or ordered[first - 1] < ordered[first]
    assert len(ordered) - first >= share * len(ordered) - 1e-9


def test_nothing_at_all_is_a_count_of_nothing():
    """An empty log is not an error: there are 0 labels."""
    rows, policy = read(rows=Rows(0))
    supply = rows.supply(policy)
    assert (supply.have, supply.coverage) == (0, 0.0)
    assert may_start(supply) == Waiting(why="waiting for labels: 0 of 20", have=0, need=20)


def test_base_rows_stand_before_recent_ones_and_must_be_complete():
    """Base rows are joined by name; one without a feature is refused by name."""
    recent = Table({"x": np.array([2.0]), "y": np.array([1.0])})
    base = Table({"y": np.array([0.0]), "x": np.array([1.0]), "id": np.array([7.0])})
    assert training_rows(base, recent)["x"].tolist() == [1.0, 2.0]
    assert training_rows(None, recent) is recent
    with pytest.raises(InvalidInput, match="lack the columns x"):
        training_rows(base.select(["y"]), recent)


def test_a_feature_that_the_log_does_not_keep_is_named():
    """Dropped from the log, a feature cannot be trained on, and the error says where to change it."""
    rows, policy = read()
    other = Signature.of_columns((ColumnSpec(name="z", type=ColumnType.DOUBLE),))
    with pytest.raises(InvalidInput, match="does not contain the features z"):
        divide(rows, policy, other, since=None)


def test_schema_violations_are_listed_by_column():
    """Missing columns, missing values where none may be, and text for numbers are each a sentence."""
    signature = Signature.of_columns(
        (
            ColumnSpec(name="a", type=ColumnType.DOUBLE),
            ColumnSpec(name="b", type=ColumnType.DOUBLE),
            ColumnSpec(name="c", type=ColumnType.STRING, required=False),
            ColumnSpec(name="d", type=ColumnType.DOUBLE),
        )
    )
    nothing = np.array([None, None], dtype=object)
    rows = Table({"a": np.array([1.0, np.nan]), "b": np.array([1, "x"], dtype=object), "c": nothing})
    assert schema_violations(rows, signature) == (
        "a: 1 values are missing",
        "b: 1 values are not numbers",
        "d is missing",
    )


def test_policy_reads_the_contract_and_refuses_nonsense():
    """Every key of the contract is read; what cannot be meant is refused by name."""
    policy = from_mapping(
        RetrainingPolicy,
        {
            "module": "t",
            "function": "f",
            "triggers": ["drift"],
            "window": "7d",
            "limits": {"memory": "512MiB", "time": "5m"},
        },
        at="retraining",
    )
    assert policy.limits.limits.memory_bytes == 512 << 20
    assert policy.triggers == ("drift",)
    assert parse_bytes("1.5GiB") == 3 << 29
    for nonsense in (
        {"min_lables": 1},
        {"evaluation_share": 1},
        {"min_coverage": 2},
        {"window": "0s"},
        {"shadow": "1h"},
        {"limits": {"memory": "many"}},
        {"runner": "ray"},
        {"triggers": ["moon"]},
    ):
        with pytest.raises(InvalidPolicy):
            from_mapping(RetrainingPolicy, nonsense, at="retraining")
    assert JobLimits().limits.time == timedelta(hours=1)


def test_a_workflows_input_is_read():
    """Healing's payload, with keys for others and causes of its own, becomes what a run is about."""
    asked = Asked.of({"model": "m", "cause": "ood", "run": "R-1", "since": "2026-03-01T00:00:00+00:00"})
    assert asked == Asked(model=ModelName("m"), cause=RunCause.DRIFT, since=NOW)
    assert Asked.of({"model": "m"}).cause is RunCause.MANUAL


def test_a_model_without_a_target_cannot_be_trained():
    """The target is named by the policy, and its absence is told."""
    with pytest.raises(InvalidPolicy, match=r"monitoring\.target"):
        _ = Policies.of(PolicyDocument(model=ModelName("m"))).target


def test_replays_remembered_before_rounds_were_timed_stay_readable():
    """A run that was interrupted after its replay goes on after an update; its latency is then not measured."""
    one = {"predictions": "predictions.parquet", "latency_p95_ms": 1.09, "artifact_bytes": 1000}
    replays = from_builtins({"candidate": one, "production": one}, Replays)
    assert replays.candidate == Replayed(predictions="predictions.parquet", artifact_bytes=1000, latencies_ms=())
