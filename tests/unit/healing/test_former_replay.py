"""The replay of the former version: what it answers on an incident's rows, and what stays unknown."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from mendel.adapters.memory.predictions import MemoryInbox, MemoryLake
from mendel.adapters.memory.runner import MemoryRunner
from mendel.app.wiring import ParquetTables
from mendel.drift import MonitoringPolicy, Reference
from mendel.healing import Former, FormerReplay, SignalKind
from mendel.healing.former_replay import judge_failures, judge_latency, judge_quality, judge_reference
from mendel.predictions import LabelRow, PredictionBlock, PredictionLog, id_texts, mint_ids
from mendel.predictions.lake_rows import block_rows, label_rows
from mendel.predictions.ports import LABELS_TABLE, predictions_table
from mendel.serving import write_artifact
from mendel.values import ModelName, Table, VersionRef, to_micros
from support.threshold import Brittle

MODEL = ModelName("credit")
NAMES = ("age", "income")
MINUTE = timedelta(minutes=1)
POLICY = {"monitoring": {"min_rows": 40, "primary_metric": "accuracy"}}
SMALL = MonitoringPolicy(min_rows=100, primary_metric="accuracy")


class TwoVersions:
    """Two versions with artefacts, the first of them the former one, and the rows of the second."""

    def __init__(self, house):
        self.house, self.lake = house, MemoryLake()
        house.registry.policies.set(MODEL, POLICY)
        log = PredictionLog(MemoryInbox(), self.lake, house.unit, lambda *_: ())
        self.replay = FormerReplay(house.registry, log, runner=MemoryRunner({}), tables=ParquetTables())

    def version(self, number, *, limit=1e9, low=0.0):
        """Write the artefact of a version that was trained on ages from *low* to *low* + 1."""
        frame = pd.DataFrame({"age": np.linspace(low, low + 1, 60), "income": np.linspace(0, 1, 60)})
        model = Brittle(NAMES, limit=limit).fit(frame.to_numpy(), np.array(frame["age"] > low + 0.5, dtype=int))
        record = self.house.registry.versions.get(VersionRef(MODEL, number))
        write_artifact(model, self.house.trees.tree(record.uuid), training=frame)

    def rows(self, ages, incomes, *, labels=None, answers=None):
        """Log one row a second for the version in production, up to now."""
        count, now = len(ages), self.house.clock.advance(MINUTE)
        start = to_micros(now) - count * 100_000
        ids = mint_ids(count, micros=start, randbytes=random.Random(0).randbytes)
        block = PredictionBlock(
            model=MODEL,
            version=2,
            uuid="u",
            generation=1,
            prediction_ids=ids,
            timestamp_micros=start + np.arange(count, dtype=np.int64) * 100_000,
            door="rest",
            feature_names=NAMES,
            features=np.column_stack([ages, incomes]),
            predictions=np.ones(count) if answers is None else np.asarray(answers, dtype=float),
            latency_ms=1.0,
        )
        self._append(predictions_table(MODEL), block_rows(block), 1)
        if labels is not None:
            told = [
                LabelRow(prediction_id=name, true_label=float(label), label_source="t", received_at=now)
                for name, label in zip(id_texts(ids), labels, strict=True)
            ]
            self._append(LABELS_TABLE, label_rows(told, spool_id="s", seq=1), 1)

    def _append(self, table, rows, seq):
        self.lake.append(table, rows, marks={"s": seq}, seen={"s": self.lake.shipped(table, "s")})

    def compare(self, *kinds, within=MINUTE):
        house = self.house
        (incident,) = house.healing.notice([house.signal(SignalKind(kind)) for kind in kinds], house.clock())
        return self.replay.compare(incident, now=house.clock(), within=within)


@pytest.fixture
def versions(house):
    return TwoVersions(house)


@pytest.mark.parametrize(("former", "found"), [(1e9, Former.BETTER), (5.0, Former.AS_BAD)])
def test_errors_are_looked_for_in_both_versions(versions, former, found):
    """A former version that answers the rows does better; one that fails on them too shows an upstream fault."""
    versions.version(1, limit=former)
    versions.version(2, limit=5.0)
    versions.rows(np.linspace(0, 1, 60), np.where(np.arange(60) % 2, 9.0, 0.5))
    compared = versions.compare("faults")
    assert compared.former is found
    assert compared.text.startswith("of 60 rows, the version failed on 50.00%")


def test_errors_that_the_replay_does_not_show_are_unknown(versions):
    """Errors that come of a server, and not of the rows, blame no version."""
    versions.version(1)
    versions.version(2)
    versions.rows(np.linspace(0, 1, 60), np.full(60, 0.5))
    assert versions.compare("faults").former is Former.UNKNOWN


def test_latency_is_timed_side_by_side(versions):
    """Two versions of the same cost are as slow as each other."""
    versions.version(1)
    versions.version(2)
    versions.rows(np.linspace(0, 1, 60), np.full(60, 0.5))
    assert versions.compare("latency").former is Former.AS_BAD


@pytest.mark.parametrize(("truth", "found"), [("former", Former.BETTER), ("current", Former.AS_BAD)])
def test_quality_is_compared_on_the_labelled_rows(versions, truth, found):
    """The former version does better if its accuracy on the same labels is higher beyond chance."""
    versions.version(1)
    versions.version(2)
    ages = np.linspace(0, 1, 60)
    former, current = (ages > 0.5).astype(int), (ages < 0.5).astype(int)
    versions.rows(ages, np.full(60, 0.5), labels=former if truth == "former" else current, answers=current)
    compared = versions.compare("quality")
    assert compared.former is found
    assert "accuracy of the former version" in compared.text


@pytest.mark.parametrize(("low", "found"), [(10.0, Former.BETTER), (0.0, Former.AS_BAD)])
def test_drift_without_labels_is_held_against_the_former_reference(versions, low, found):
    """Rows that look like the former version's training data would not be outside it."""
    versions.version(1, low=low)
    versions.version(2)
    versions.rows(np.linspace(10, 11, 60), np.linspace(0, 1, 60))
    assert versions.compare("ood").former is found


def test_what_cannot_be_asked_is_unknown(versions):
    """No rows, too few labels, an artefact that is missing and too little time are unknown, each with its reason."""
    assert versions.compare("faults").text == "the prediction log has 0 rows of the incident; 20 are needed"
    assert versions.compare("quality").text == "0 labelled rows; monitoring.min_rows is 40"
    versions.version(1)
    versions.version(2)
    versions.rows(np.linspace(0, 1, 60), np.full(60, 0.5))
    late = versions.compare("faults", within=timedelta(microseconds=2))
    assert (late.former, "took longer" in late.text) == (Former.UNKNOWN, True)


def test_the_bounds_are_strict():
    """Shares and ratios at their bounds are not above them."""
    assert judge_failures(0.05, 0.0, 100, bound=0.05).former is Former.UNKNOWN
    assert judge_failures(0.06, 0.05, 100, bound=0.05).former is Former.BETTER
    assert judge_failures(0.06, 0.051, 100, bound=0.05).former is Former.AS_BAD
    assert judge_latency([1.5] * 15, [1.0] * 15, bound=1.5).former is Former.AS_BAD
    assert judge_latency([1.6] * 15, [1.0] * 15, bound=1.5).former is Former.BETTER
    assert judge_latency([], [], bound=1.5).former is Former.UNKNOWN


def test_a_better_quality_within_chance_is_no_reason_to_go_back():
    """One label more of 200 is as bad; twenty are better."""
    labels = np.ones(200)
    answered = lambda right: Table({"label": labels, "prediction": (np.arange(200) < right).astype(float)})  # noqa: E731
    assert judge_quality(answered(150), answered(151), SMALL).former is Former.AS_BAD
    assert judge_quality(answered(150), answered(170), SMALL).former is Former.BETTER


def test_every_bound_that_was_crossed_must_hold_for_the_former_version():
    """A former version whose reference has the drift, or cannot show it, is not better."""
    rng = np.random.default_rng(0)
    reference = Reference.fit(Table({"age": rng.normal(size=2000)}))
    alike, moved, few = (Table({"age": rng.normal(shift, size=n)}) for shift, n in ((0, 300), (3, 300), (0, 50)))
    found = [
        judge_reference(["drift", "drift_score"], rows, reference, SMALL, drift_kl=0.3, ood_rate=0.2).former
        for rows in (alike, moved, few)
    ]
    assert found == [Former.BETTER, Former.AS_BAD, Former.UNKNOWN]
