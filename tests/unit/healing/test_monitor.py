"""The monitor: what it sees in counters, servers, profiles and labels, and that it says when there is nothing to do."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import count

import numpy as np
import pytest

from mendel.adapters.memory.predictions import MemoryInbox, MemoryLake
from mendel.drift import Profile, Reference
from mendel.healing import (
    Cause,
    EffectState,
    Former,
    IncidentStatus,
    LogFacts,
    Monitor,
    SignalKind,
    judge_log,
)
from mendel.predictions import (
    LabelRow,
    PredictionBlock,
    PredictionLog,
    ProfileRow,
    SegmentProfile,
    id_texts,
    mint_ids,
)
from mendel.predictions.lake_rows import block_rows, label_rows
from mendel.predictions.ports import LABELS_TABLE, ProfileStore, predictions_table
from mendel.values import ModelName, Severity, Table, VersionRef, Window, from_json, to_json, to_micros

MODEL = ModelName("credit")
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NAMES = ("age", "income", "debt")
FAST = {"monitoring": {"every": "1m", "lookback": "10m", "min_rows": 100, "primary_metric": "accuracy"}}


class Lakeside:
    """A prediction log over memory, filled by hand: rows, their profiles by minute, and labels."""

    def __init__(self, house):
        self.house, self.lake, self.rng = house, MemoryLake(), np.random.default_rng(0)
        self.chance, self.seq = random.Random(0), count(1)
        self.log = PredictionLog(MemoryInbox(), self.lake, house.unit, lambda *_: ())
        self.reference = Reference.fit(self.table(self.rng.normal(size=(5000, 3))))

    def table(self, rows):
        return Table({name: rows[:, place] for place, name in enumerate(NAMES)})

    def give_reference(self, number):
        tree = self.house.trees.tree(self.house.registry.versions.get(VersionRef(MODEL, number)).uuid)
        (tree / "mendel").mkdir(parents=True)
        (tree / "mendel" / "reference.json").write_bytes(self.reference.to_json())

    def minute(self, *, number=2, rows=60, shift=0.0, accuracy=None):
        """One minute of traffic that ends now."""
        end = self.house.clock.advance(MINUTE)
        start = to_micros(end - MINUTE)
        values = self.rng.normal(size=(rows, 3)) + shift
        ids = mint_ids(rows, micros=start, randbytes=self.chance.randbytes)
        block = PredictionBlock(
            model=MODEL,
            version=number,
            uuid="u",
            generation=1,
            prediction_ids=ids,
            timestamp_micros=start + np.arange(rows, dtype=np.int64),
            door="rest",
            feature_names=NAMES,
            features=values,
            predictions=np.ones(rows),
            latency_ms=1.0,
        )
        seq = next(self.seq)
        self.append(predictions_table(MODEL), block_rows(block), seq)
        profile = ProfileRow(
            model=MODEL,
            version=number,
            reference_id=str(self.reference.id),
            window=Window(end - MINUTE, end),
            profile=Profile.of(self.reference, self.table(values)).to_json().decode(),
        )
        key = SegmentProfile(spool_id="s", seq=seq, row=profile)
        self.house.unit.write(lambda tx: tx.store(ProfileStore).add([key]))
        if accuracy is not None:
            right = np.arange(rows) < accuracy * rows
            labels = [
                LabelRow(prediction_id=id_, true_label=float(ok), label_source="t", received_at=end)
                for id_, ok in zip(id_texts(ids), right, strict=True)
            ]
            self.append(LABELS_TABLE, label_rows(labels, spool_id="s", seq=seq), seq)

    def append(self, table, rows, seq):
        self.lake.append(table, rows, marks={"s": seq}, seen={"s": self.lake.shipped(table, "s")})


@pytest.fixture
def lakeside(house):
    house.registry.policies.set(MODEL, FAST)
    side = Lakeside(house)
    side.give_reference(2)
    return side


@pytest.fixture
def monitor(house, lakeside, make_watch):
    return Monitor(house.registry, lakeside.log, make_watch(house))


def kinds(outlook):
    return [signal.kind for signal in outlook.signals]


class TestGlance:
    def test_nothing_to_do_is_said_with_its_reasons(self, house, monitor):
        """A healthy model gives no signal, and the readings that say why."""
        house.report(requests=0)
        house.clock.advance(2 * SECOND)
        house.report(requests=200)
        seen = monitor.check_counters(MODEL, house.clock())
        assert seen.signals == ()
        assert seen.nothing_to_do.startswith("credit@2: nothing to do, because 1 of 1 servers serve generation 2")
        assert "error rate 0 (bound 0.05)" in seen.nothing_to_do
        assert set(seen.clear) >= {SignalKind.FAULTS, SignalKind.NOT_CONVERGING}

    def test_no_production_version(self, make_house, lakeside, make_watch):
        """A model without a production version has nothing to look at, and is told so."""
        house = make_house()
        house.add_version(1)
        seen = Monitor(house.registry, lakeside.log, make_watch(house)).check_counters(MODEL, house.clock())
        assert seen.ref is None
        assert "no version is in production" in seen.nothing_to_do

    def test_faults_are_seen_from_counters(self, house, monitor):
        """The error rate above its bound is a signal with the registry's words, its severity and its evidence."""
        house.report()
        house.clock.advance(2 * SECOND)
        house.report(requests=100, errors=12)
        (signal,) = monitor.look(MODEL, house.clock())
        assert (signal.kind, signal.severity) == (SignalKind.FAULTS, Severity.HIGH)
        assert signal.reasons == ("High error rate: 12.00%",)
        assert signal.evidence.readings["samples"] == 100
        assert signal.evidence.digests[0].startswith("sha256:")
        assert signal.evidence.policy_hash == house.registry.policies.of(MODEL).hash

    def test_too_few_requests_say_nothing(self, house, monitor):
        """Below the least number of requests faults are neither there nor gone."""
        house.report()
        house.clock.advance(2 * SECOND)
        house.report(requests=20, errors=20)
        seen = monitor.check_counters(MODEL, house.clock())
        assert kinds(seen) == []
        assert SignalKind.FAULTS not in seen.clear

    def test_a_fault_is_decided_upon_and_undone_in_one_pass(self, house, monitor):
        """From counters to the former version in production: one look, one decision, one play."""
        house.report()
        house.clock.advance(2 * SECOND)
        house.report(requests=60, errors=60)
        house.healing.respond_to(monitor.check_counters(MODEL, house.clock()), house.clock())
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 1
        (incident,) = house.store(lambda store: store.incidents())
        assert incident.severity is Severity.CRITICAL
        assert incident.context.avg_error_rate == 1.0
        assert incident.context.window_minutes > 0


class TestStudy:
    def test_calm(self, lakeside, monitor, house):
        """Unchanged inputs and good answers: nothing to do, with the share and the metric."""
        for _ in range(12):
            lakeside.minute(accuracy=0.9)
        seen = monitor.check_log(MODEL, house.clock())
        assert kinds(seen) == []
        assert "features drifted" in seen.nothing_to_do
        assert "accuracy 0.900" in seen.nothing_to_do
        assert set(seen.clear) == {SignalKind.DRIFT, SignalKind.QUALITY}

    def test_too_few_rows_are_not_calm(self, lakeside, monitor, house):
        """Without enough rows drift is not measured: no signal, and nothing is answered by it."""
        lakeside.minute(rows=50)
        seen = monitor.check_log(MODEL, house.clock())
        assert seen.signals == ()
        assert seen.clear == ()
        assert "insufficient_data" in seen.nothing_to_do

    def test_a_version_without_reference(self, house, lakeside, make_watch):
        """A version registered without training data cannot be measured for drift, and that is said."""
        house.add_version(3)
        house.promote(3)
        seen = Monitor(house.registry, lakeside.log, make_watch(house)).check_log(MODEL, house.clock())
        assert "no drift reference" in seen.nothing_to_do

    def test_drift_is_confirmed_in_consecutive_windows_and_dated(self, lakeside, monitor, house):
        """Drift is a signal once two windows in a row show it, and tells when it began."""
        for _ in range(12):
            lakeside.minute()
        began = house.clock()
        seen = []
        for _ in range(8):
            lakeside.minute(shift=2.0)
            seen.append(monitor.check_log(MODEL, house.clock()))
        first = next(place for place, one in enumerate(seen) if one.signals)
        (signal,) = seen[first].signals
        assert "not measured" not in signal.reasons[0]
        assert signal.evidence.readings["drifted_features"] == ["age", "debt", "income"]
        assert len(signal.evidence.digests) == 2
        assert all(one.signals for one in seen[first:])
        assert abs(seen[-1].signals[0].since - began) <= MINUTE

    def test_drift_opens_an_incident_and_a_training_on_what_came_since(self, lakeside, monitor, house):
        """The incident's training is asked for the rows since the change began."""
        for _ in range(12):
            lakeside.minute()
        began = house.clock()
        for _ in range(9):
            lakeside.minute(shift=2.0)
        (incident,) = house.healing.respond_to(monitor.check_log(MODEL, house.clock()), house.clock())
        assert incident.cause is Cause.DRIFT
        assert abs(incident.since - began) <= MINUTE
        assert house.ground.asked == [incident.since]
        (event,) = house.events("model.drift_detected")
        assert event.data["drift_share"] == 1.0

    def test_an_incident_is_answered_when_the_inputs_are_back(self, lakeside, monitor, house):
        """Once every window is calm again, the incident of drift is resolved by the study."""
        house.registry.policies.set(MODEL, {**FAST, "healing": {"remedies": {"drift": "retrain"}}})
        house.ground.have = 0
        for _ in range(12):
            lakeside.minute(shift=2.0)
        house.healing.respond_to(monitor.check_log(MODEL, house.clock()), house.clock())
        for _ in range(12):
            lakeside.minute()
        house.healing.respond_to(monitor.check_log(MODEL, house.clock()), house.clock())
        (incident,) = house.store(lambda store: store.incidents())
        assert incident.status is IncidentStatus.RESOLVED

    def test_quality_is_held_against_the_version_s_own_first_rows(self, lakeside, monitor, house):
        """Without registered metrics, the first labelled rows in production are the baseline."""
        house.clock.now = house.registry.lifecycle.history(MODEL)[-1].start
        for _ in range(3):
            lakeside.minute(accuracy=0.95)
        assert kinds(monitor.check_log(MODEL, house.clock())) == []
        for _ in range(12):
            lakeside.minute(accuracy=0.6)
        (signal,) = monitor.check_log(MODEL, house.clock()).signals
        assert signal.kind is SignalKind.QUALITY
        assert not signal.only_since_version
        (incident,) = house.healing.notice([signal], house.clock())
        assert incident.cause is Cause.QUALITY

    def test_quality_low_from_the_start_is_a_regression(self, house, make_watch):
        """A new version whose quality is low from its first rows on is rolled back, if the former one does better."""
        house.registry.policies.set(MODEL, FAST)
        side = Lakeside(house)
        house.add_version(3, metrics={"accuracy": 0.95})
        house.promote(3)
        side.give_reference(3)
        for _ in range(12):
            side.minute(number=3, accuracy=0.6)
        monitor = Monitor(house.registry, side.log, make_watch(house))
        house.healing.respond_to(monitor.check_log(MODEL, house.clock()), house.clock())
        (incident,) = house.store(lambda store: store.incidents())
        assert incident.cause is Cause.REGRESSION
        house.former.does = Former.BETTER
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 3
        house.healing.review(MODEL, house.clock())
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 2

    def test_stored_facts_are_judged_again(self, lakeside, monitor, house):
        """The facts of a study give the same result after storage; a policy with wider bounds finds nothing in them."""
        for shift in [0.0] * 12 + [2.0] * 12:
            lakeside.minute(shift=shift, accuracy=0.6 if shift else 0.95)
        seen = monitor.observe_log(MODEL, house.clock())
        assert kinds(seen.found) == [SignalKind.DRIFT, SignalKind.QUALITY]
        facts = from_json(to_json(seen.log), LogFacts)
        assert to_json(judge_log(facts, seen.document, house.clock())) == to_json(seen.found)
        wide = {**FAST["monitoring"], "quality_margin": 0.9, "effects": {"wasserstein": 9}}
        wider = house.registry.policies.set(MODEL, {"monitoring": wide})
        assert kinds(judge_log(facts, wider, house.clock())) == []

    def test_a_floor_of_the_policy(self, lakeside, monitor, house):
        """A quality floor holds whatever the baseline was."""
        house.registry.policies.set(MODEL, {**FAST, "healing": {"quality_floor": 0.9}})
        for _ in range(12):
            lakeside.minute(accuracy=0.7)
        (signal,) = monitor.check_log(MODEL, house.clock()).signals
        assert signal.evidence.readings["threshold"] == 0.9


class TestEffect:
    def test_of_faults(self, house, monitor):
        """Faults are gone once enough requests since the change went well; before, nothing is known."""
        house.report(number=2)
        house.clock.advance(2 * SECOND)
        house.report(number=2, requests=60, errors=60)
        house.policy(remedies={"faults": "none"})
        (incident,) = house.healing.respond_to(monitor.check_counters(MODEL, house.clock()), house.clock())
        house.registry.lifecycle.roll_back(MODEL, by="ann", reason="faults")
        since = house.clock()
        house.report(number=1)
        look = lambda: monitor.effect(incident, since=since, now=house.clock()).state  # noqa: E731 - one line
        assert look() is EffectState.NOT_MEASURED
        house.clock.advance(2 * SECOND)
        house.report(number=1, requests=60)
        assert look() is EffectState.GONE
        house.clock.advance(2 * SECOND)
        house.report(number=1, requests=60, errors=60)
        assert look() is EffectState.PERSISTS

    def test_of_drift_and_quality(self, lakeside, monitor, house):
        """Drift and quality are judged on the serving version's rows since the change only."""
        house.ground.have = 0
        for _ in range(12):
            lakeside.minute(shift=2.0, accuracy=0.9)
        (incident,) = house.healing.respond_to(monitor.check_log(MODEL, house.clock()), house.clock())
        since = house.clock()
        assert monitor.effect(incident, since=since, now=house.clock()).state is EffectState.NOT_MEASURED
        for _ in range(3):
            lakeside.minute()
        assert monitor.effect(incident, since=since, now=house.clock()).state is EffectState.GONE
        for _ in range(6):
            lakeside.minute(shift=2.0)
        found = monitor.effect(incident, since=since, now=house.clock())
        assert found.state is EffectState.PERSISTS
        assert "drifted" in found.text
