"""The log as one reads it: the same rows before and after shipping, labels joined however they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest

from mendel.errors import PredictionNotFound, StoreUnavailable
from mendel.predictions import HubIntake, Lake, PredictionLog, SegmentInbox, Spool, SpoolPolicy, id_texts, pack_ids
from mendel.values import Measured, ModelName, NotMeasured, to_micros

CREDIT = ModelName("credit")


def names(block):
    return id_texts(block.prediction_ids)


@pytest.fixture(params=["waiting", "shipped"])
def arrive(request, road, now):
    """Move what is in the spool on: to the inbox only, or through to the lake. Every claim holds for both."""

    def move():
        road.send()
        if request.param == "shipped":
            road.shipper.ship(now)

    return move


@dataclass
class Interrupted:
    """Inbox and lake between which something happens: before the n-th call that reads them."""

    inbox: SegmentInbox
    lake: Lake
    happens: Callable[[], None]
    before_call: int
    calls: int = 0

    def pending(self):
        return self._then(self.inbox.pending)

    def read(self, spool_id, seq):
        return self._then(lambda: self.inbox.read(spool_id, seq))

    def tables(self):
        return self._then(self.lake.tables)

    def snapshot(self, table):
        return self._then(lambda: self.lake.snapshot(table))

    def _then(self, read):
        self.calls += 1
        if self.calls == self.before_call:
            self.happens()
        return read()


class TestPredictions:
    def test_rows_of_a_window_by_event_time(self, road, arrive, make_block, now):
        """A window holds its start and not its end, and rows come oldest first."""
        hour = timedelta(hours=1)
        blocks = [make_block(1, at=now + offset) for offset in (hour, -hour, -2 * hour)]
        for block in blocks:
            road.spool.append(block)
        arrive()
        window = type(road.window)(now - 2 * hour, now + hour)
        rows = road.log.predictions(CREDIT, window)
        assert rows["prediction_id"].tolist() == names(blocks[2]) + names(blocks[1])

    def test_versions_and_columns(self, road, arrive, make_block):
        """One version and some columns can be asked for."""
        road.spool.append(make_block(2))
        road.spool.append(make_block(1, version=4))
        arrive()
        rows = road.log.predictions(CREDIT, road.window, version=4, columns=("feature.age",))
        assert rows["feature.age"].tolist() == [0.0]
        assert "feature.income" not in rows

    def test_quarantined_rows_are_kept_apart(self, road, arrive, make_block):
        """An unbelievable event time keeps the row out of every window, not out of the log."""
        road.spool.append(make_block(1, event_micros=(0,)))
        arrive()
        assert len(road.log.predictions(CREDIT, road.window)) == 0
        assert len(road.log.predictions(CREDIT, road.window, quarantined=True)) == 1
        assert road.log.profile_rows(CREDIT, 3, "r1", road.window) == ()

    def test_nothing_logged(self, road):
        """A model that never answered has no rows, in the columns that every model has."""
        rows = road.log.predictions(CREDIT, road.window)
        assert len(rows) == 0
        assert {"prediction_id", "prediction", "error"} <= set(rows.names)
        assert len(road.log.labelled(CREDIT, road.window)) == 0
        assert road.log.models() == ()

    def test_waiting_and_shipped_rows_are_one_table(self, road, make_block, now):
        """Rows in the lake and rows that wait are read together, each once, with a feature more."""
        road.spool.append(make_block(2))
        road.send()
        road.shipper.ship(now)
        road.spool.append(make_block(1, feature_names=("age", "income", "debt"), features=np.ones((1, 3))))
        road.send()
        rows = road.log.predictions(CREDIT, road.window)
        assert np.isnan(rows["feature.debt"][:2]).all()
        assert rows["feature.debt"][2] == 1.0

    def test_an_id_that_stands_twice_counts_once(self, road, arrive, make_block):
        """Should one id ever be logged twice, it is read once."""
        block = make_block(2)
        road.spool.append(block)
        road.spool.append(block)
        arrive()
        assert road.log.predictions(CREDIT, road.window)["prediction_id"].tolist() == names(block)


class TestLabels:
    def test_join_however_late(self, road, arrive, make_block, make_label, now):
        """A label that comes days later joins its prediction."""
        block = make_block(3)
        road.spool.append(block)
        arrive()
        road.spool.append_labels([make_label(names(block)[1], 0, at=now + timedelta(days=9))])
        arrive()
        rows = road.log.labelled(CREDIT, road.window)
        assert rows["prediction_id"].tolist() == [names(block)[1]]
        assert rows["label"].tolist() == [0.0]

    def test_second_label_replaces_the_first(self, road, arrive, make_block, make_label, now):
        """The last label counts, and the contradiction is counted."""
        block = make_block(1)
        road.spool.append(block)
        for outcome in (0, 1):
            road.spool.append_labels([make_label(names(block)[0], outcome, at=now + timedelta(seconds=outcome))])
            arrive()
        assert road.log.labelled(CREDIT, road.window)["label"].tolist() == [1.0]
        assert road.log.stats(CREDIT, now).conflicts == 1
        assert [label.true_label for label in road.log.find(names(block)[0]).labels] == [0, 1]

    def test_label_before_prediction(self, road, arrive, make_block, make_label, now):
        """A label of an unknown prediction is unmatched, and joins when the prediction comes."""
        block = make_block(1)
        road.spool.append_labels([make_label(names(block)[0], 1)])
        arrive()
        assert road.log.stats(CREDIT, now).unmatched == 1
        road.spool.append(block)
        arrive()
        assert road.log.stats(CREDIT, now).unmatched == 0
        assert len(road.log.labelled(CREDIT, road.window)) == 1

    @pytest.mark.parametrize("shipped", [False, True])
    @pytest.mark.parametrize("call", range(1, 9))
    def test_figures_agree_while_the_prediction_arrives(self, road, make_block, make_label, *, now, call, shipped):
        """Whenever a prediction comes while figures are counted, its label is matched in all of them or in none."""
        block = make_block(1)
        road.spool.append_labels([make_label(names(block)[0], 1)])
        road.send()

        def arrives():
            road.spool.append(block)
            road.send()
            if shipped:
                road.shipper.ship(now)

        stores = Interrupted(road.inbox, road.lake, arrives, before_call=call)
        stats = PredictionLog(stores, stores, road.unit, lambda *_: ()).stats(CREDIT, now)
        assert (stats.predictions, stats.labelled, stats.unmatched) in {(0, 0, 1), (1, 1, 0)}

    def test_ids_that_tell_no_time(self, road, arrive, make_block, make_label, now):
        """Predictions logged under foreign UUIDs find their labels too."""
        foreign = "7d444840-9dc0-41d1-b245-5ffdce74fad2"
        road.spool.append(make_block(1, prediction_ids=pack_ids([foreign])))
        road.spool.append_labels([make_label(foreign, 1), make_label("order-17", 1)])
        arrive()
        assert road.log.labelled(CREDIT, road.window)["label"].tolist() == [1.0]
        assert road.log.stats(CREDIT, now).unmatched == 1

    def test_conflicts_of_other_models_are_not_this_ones(self, road, arrive, make_block, make_label, now):
        """Labels stand in one table; figures of a model are over its own."""
        other = make_block(1, model=ModelName("churn"))
        road.spool.append(make_block(1))
        road.spool.append(other)
        road.spool.append_labels([make_label(names(other)[0], "a"), make_label(names(other)[0], "b")])
        arrive()
        assert road.log.stats(CREDIT, now).conflicts == 0
        assert road.log.stats(ModelName("churn"), now).conflicts == 1
        assert road.log.models() == ("churn", "credit")


class TestStats:
    def test_figures(self, road, arrive, make_block, make_label, now):
        """Counts, the last hundred and coverage are what was logged; shadow rows are apart."""
        positive = np.repeat([1.0, 0.0], [90, 60])
        chance = np.column_stack([1 - positive, positive])
        block = make_block(150, predictions=positive, probabilities=chance)
        road.spool.append(block)
        road.spool.append(make_block(4, shadow=True))
        road.spool.append(make_block(1, predictions=None, errors=("broke",), at=now - timedelta(hours=2)))
        road.spool.append_labels([make_label(name) for name in names(block)[:30]])
        arrive()
        stats = road.log.stats(CREDIT, now + timedelta(seconds=1))
        assert (stats.predictions, stats.shadow, stats.errors, stats.labelled) == (151, 4, 1, 30)
        assert stats.coverage == Measured(value=30 / 151, samples=151)
        assert stats.positive == "1"
        assert stats.last.count == 100
        assert stats.last.positive_rate == Measured(value=0.4, samples=100)
        assert stats.last.probability_mean == Measured(value=0.4, samples=100)
        assert [span.rows.count for span in stats.spans] == [150, 151, 151]

    def test_what_cannot_be_said_is_not_measured(self, road, arrive, make_block, now):
        """Without predictions there are no rates, and a regression has no positive class."""
        assert road.log.stats(CREDIT, now).coverage == NotMeasured(reason="no predictions", have=0, need=1)
        road.spool.append(make_block(2, predictions=np.array([3.5, 7.25]), probabilities=None, classes=()))
        arrive()
        last = road.log.stats(CREDIT, now + timedelta(seconds=1)).last
        assert isinstance(last.positive_rate, NotMeasured)
        assert isinstance(last.probability_mean, NotMeasured)


class TestFind:
    def test_all_that_is_known(self, road, arrive, make_block, now):
        """A prediction is found with everything it was logged with."""
        image = f"sha256:{'5' * 64}"
        block = make_block(
            2, release_tag="credit-v1.0.0-mlserver-abc1234", image_digest=image, fingerprint="f", correlation_ids="c"
        )
        road.spool.append(block)
        arrive()
        found = road.log.find(names(block)[1])
        assert (found.model, found.version, found.prediction, found.door) == ("credit", 3, 1.0, "rest")
        assert found.features == {"age": 2.0, "income": 3.0}
        assert found.probabilities == {"0": 0.25, "1": 0.75}
        assert (found.release_tag, found.fingerprint, found.correlation_id) == (block.release_tag, "f", "c")
        assert found.image_digest == image
        assert (found.event_time, found.claimed_time, found.quarantined) == (now, None, False)
        assert (found.ood, found.error, found.labels) == (None, None, ())

    def test_unknown(self, road):
        """An id nobody logged is not found."""
        with pytest.raises(PredictionNotFound, match="'x'"):
            road.log.find("x")


class TestProfiles:
    def test_fresh_and_shipped_sum_to_the_rows(self, road, make_block, now):
        """Profiles of shipped segments and of waiting ones are together those of every row."""
        for rows in (2, 3):
            road.spool.append(make_block(rows))
            road.send()
            road.shipper.ship(now) if rows == 2 else None
        found = road.log.profile_rows(CREDIT, 3, "r1", road.window)
        assert sorted(int(row.profile) for row in found) == [2, 3]
        assert road.log.profile_rows(CREDIT, 4, "r1", road.window) == ()
        assert road.log.profile_rows(CREDIT, 3, "other", road.window) == ()


class TestIntake:
    def test_what_is_posted_to_the_hub_is_there_at_once(self, road, tmp_path, make_block, make_label):
        """Labels and predictions given to the hub are in the inbox when the call returns."""
        block = make_block(1)
        with Spool(tmp_path / "hub", "hub") as spool:
            intake = HubIntake(spool, road.inbox)
            intake.accept_predictions(block)
            intake.accept_labels([make_label(names(block)[0], 1)])
            assert len(road.log.labelled(CREDIT, road.window)) == 1
            assert [segment.seq for segment in road.inbox.pending()] == [1, 2]

    def test_what_a_killed_hub_left_is_sent(self, road, tmp_path, make_block):
        """A segment that was sealed and not put is put when the hub starts again."""
        with Spool(tmp_path / "hub", "hub") as spool:
            spool.append(make_block(1))
        with Spool(tmp_path / "hub", "hub") as spool:
            HubIntake(spool, road.inbox)
        assert len(road.inbox.pending()) == 1

    def test_a_full_disk_is_said(self, road, tmp_path, make_label):
        """When the hub's spool is full, the caller hears that nothing was taken."""
        with Spool(tmp_path / "hub", "hub", policy=SpoolPolicy(max_bytes=10)) as spool:
            intake = HubIntake(spool, road.inbox)
            with pytest.raises(StoreUnavailable, match="limit"):
                intake.accept_labels([make_label("x")])


def test_times_are_micros(make_block, now):
    """The block's own time is the unit of every stored time."""
    assert make_block(1).timestamp_micros == to_micros(now)
