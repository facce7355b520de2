"""Retention: old days go, and people can be forgotten."""

from __future__ import annotations

from datetime import timedelta

from mendel.predictions import LakePolicy, forget_predictions, id_texts, maintain_lake
from mendel.values import ModelName, Window

CREDIT = ModelName("credit")


def test_what_is_older_than_the_retention_goes(road, make_block, now):
    """Rows and profiles of days beyond the retention are deleted, the others stay."""
    for days in (0, 80, 100):
        road.spool.append(make_block(1, at=now - timedelta(days=days)))
        road.send()
    road.shipper.ship(now)
    kept = maintain_lake(road.lake, road.unit, LakePolicy(), now)
    assert (kept.rows_expired, kept.profiles_expired) == (1, 1)
    window = Window.before(now + timedelta(minutes=1), timedelta(days=365))
    assert len(road.log.predictions(CREDIT, window)) == 2
    assert len(road.log.profile_rows(CREDIT, 3, "r1", window)) == 2


def test_forgetting_reaches_labels_too(road, make_block, make_label, now):
    """Forgetting a prediction deletes its row and its label, and nothing else."""
    block = make_block(2)
    first, second = id_texts(block.prediction_ids)
    road.spool.append(block)
    road.spool.append_labels([make_label(first), make_label(second)])
    road.send()
    road.shipper.ship(now)
    assert forget_predictions(road.lake, (first,)) == 2
    assert road.log.labelled(CREDIT, road.window)["prediction_id"].tolist() == [second]
