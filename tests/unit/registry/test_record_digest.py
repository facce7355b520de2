"""The digest of a version's record, which stands in the ledger instead of the record."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from mendel.registry import Expectations, Provenance, VersionRecord, VersionState
from mendel.values import from_json, to_json


@pytest.fixture
def record(house):
    return house.register(metrics={"f1": 0.5}, metadata={"features": ["age"], "sizes": (1, 2.5)}, owner="ann")


def digest(record):
    return VersionState.of(record).record_digest


def test_it_survives_the_database(record):
    """A record that was stored and read again has the same digest."""
    assert digest(from_json(to_json(record), VersionRecord)) == digest(record)


def test_a_default_value_does_not_count(record):
    """Fields that a later Mendel adds to records, with their defaults, do not change the digests of stored records."""
    stated = to_json(record).replace(b'"description":"",', b"").replace(b'"team":"",', b"")
    assert len(stated) < len(to_json(record))
    assert digest(from_json(stated, VersionRecord)) == digest(record)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "bob"},
        {"metrics": {"f1": 0.51}},
        {"metadata": {"features": ["age"], "sizes": (1, 2.6)}},
        {"expectations": Expectations(latency_p95_ms=90.0)},
        {"provenance": Provenance(git_dirty=False)},
        {"signature": None},
        {"flavors": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_change_counts(record, change):
    """A record that differs in one field has another digest."""
    assert set(change) <= {one.name for one in fields(VersionRecord)}
    assert digest(replace(record, **change)) != digest(record)
