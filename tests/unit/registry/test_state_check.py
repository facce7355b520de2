"""Rows that somebody changed beside the ledger: each is named."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql.registry import STORES
from mendel.registry import RowKind, state_faults
from support.databases import new_sqlite

TAMPERED = {
    "version row changed": (
        "UPDATE versions SET body = json_set(body, '$.metrics.f1', 0.99) WHERE number = 1",
        (RowKind.VERSION, "credit@1", "changed in fields that the ledger records by their digest only"),
    ),
    "approval forged": (
        "UPDATE versions SET body = json_set(body, '$.governance.policy_compliant.by', 'ceo') WHERE number = 2",
        (
            RowKind.VERSION,
            "credit@2",
            "governance.policy_compliant.by is 'ceo', and the events of the ledger say 'ann'",
        ),
    ),
    "stage changed": (
        "UPDATE versions SET stage = 'deprecated', body = json_set(body, '$.stage', 'deprecated') WHERE number = 3",
        (RowKind.VERSION, "credit@3", "stage is 'deprecated', and the events of the ledger say 'sandbox'"),
    ),
    "stage column changed": (
        "UPDATE versions SET stage = 'deprecated' WHERE number = 3",
        (RowKind.VERSION, "credit@3", "the column stage is 'deprecated', but the content says 'sandbox'"),
    ),
    "uuid column changed": (
        "UPDATE versions SET uuid = 'm-00000000000000000000000000000001' WHERE number = 3",
        (RowKind.VERSION, "credit@3", "the column uuid is"),
    ),
    "version row unreadable": (
        "UPDATE versions SET body = '{}' WHERE number = 3",
        (RowKind.VERSION, "credit@3", "cannot be decoded"),
    ),
    "version row deleted": (
        "DELETE FROM versions WHERE number = 3",
        (RowKind.VERSION, "credit@3", "the tables lack its row"),
    ),
    "version row added": (
        """INSERT INTO versions (model, number, uuid, key, stage, artifact_digest, body)
        SELECT model, 4, 'm-' || substr(artifact_digest, 8, 32), 'forged', stage, artifact_digest,
        json_set(body, '$.ref.number', 4, '$.uuid', 'm-' || substr(artifact_digest, 8, 32), '$.idempotency_key',
        'forged') FROM versions WHERE number = 3""",
        (RowKind.VERSION, "credit@4", "no event of the ledger wrote its row"),
    ),
    "deployment changed": (
        "UPDATE deployments SET body = json_set(body, '$.routes[0].version', 1)",
        (RowKind.DEPLOYMENT, "credit", "routes is"),
    ),
    "deployment deleted": ("DELETE FROM deployments", (RowKind.DEPLOYMENT, "credit", "the tables lack its row")),
    "policy changed": (
        "UPDATE policies SET body = json_set(body, '$.body.rollback.error_rate', 0.9)",
        (RowKind.POLICY, "credit 1", "body.rollback.error_rate is 0.9, and the events of the ledger say 0.1"),
    ),
    "policy deleted": ("DELETE FROM policies", (RowKind.POLICY, "credit 1", "the tables lack its row")),
    "policy added": (
        """INSERT INTO policies (model, version, body)
        SELECT 'fraud', 1, json_set(body, '$.model', 'fraud') FROM policies""",
        (RowKind.POLICY, "fraud 1", "no event of the ledger wrote its row"),
    ),
    "production period changed": (
        "UPDATE tenures SET actor = 'ceo' WHERE version = 1",
        (RowKind.PERIOD, "credit 1", "actor is 'ceo', and the events of the ledger say 'ann'"),
    ),
    "production period deleted": (
        "DELETE FROM tenures WHERE version = 2",
        (RowKind.PERIOD, "credit 2", "the tables lack its row"),
    ),
}


@pytest.fixture
def stored(house, tmp_path):
    """Two promoted versions, one in sandbox and a policy, in SQLite."""
    file = tmp_path / "mendel.db"
    engine = new_sqlite(file)
    house.unit = SqlUnitOfWork(engine, STORES, rng=random.Random(0))
    house.registry = house.over()
    house.promoted(2)
    house.register()
    house.registry.policies.set(house.model, {"rollback": {"error_rate": 0.1}})
    yield house, file
    engine.dispose()


def faults(house):
    return house.unit.read(lambda tx: list(state_faults(tx)))


def test_untouched_rows_follow_from_the_ledger(stored):
    """Without tampering there is no fault."""
    house, _ = stored
    assert faults(house) == []


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_row_is_named(stored, case):
    """The first fault names kind and row, and says what is wrong with it."""
    house, file = stored
    statement, (kind, row, told) = TAMPERED[case]
    with closing(sqlite3.connect(file)) as connection, connection:
        assert connection.execute(statement).rowcount == 1
    found = faults(house)
    assert [(one.kind, one.row) for one in found] == [(kind, row)]
    assert told in found[0].message
