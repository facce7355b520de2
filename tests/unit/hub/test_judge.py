"""The hub judges a version itself, on rows that were kept out of its training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from mendel.adapters.arrow import write_table
from mendel.errors import Conflict, InvalidInput, PromotionRefused
from mendel.registry import Provenance, Registration
from mendel.serving import write_artifact
from mendel.values import ModelName, Table, VersionRef

MODEL = ModelName("credit")


@pytest.fixture
def judged(hub, tmp_path):
    """A gated version in sandbox, approved; and a function that writes rows whose outcomes are *share* right."""
    chance = np.random.default_rng(0)
    rows = pd.DataFrame(chance.normal(size=(600, 2)), columns=["age", "income"])
    outcome = (rows["age"] > 0).to_numpy(dtype=np.int64)
    tree = tmp_path / "model"
    write_artifact(LogisticRegression().fit(rows, outcome), tree, input_example=rows[:5])
    client, registry = hub.client("admin"), hub.parts.registry
    client.set_policy(MODEL, {"gates": {}, "monitoring": {"target": "bad"}})
    size = Provenance(training_dataset_size=len(rows))
    wish = Registration(model=MODEL, flavor="sklearn", task="classification", provenance=size)
    ref = VersionRef.parse(client.register(wish, tree).model_id)
    registry.lifecycle.approve(ref, policy=True, bias=True, by="test")
    registry.lifecycle.transition(ref, "sandbox", by="test", without_parity="judged alone")

    def written(share, name="rows.parquet", target="bad"):
        right = chance.random(600) < share
        table = Table(
            {
                "age": rows["age"].to_numpy(),
                "income": rows["income"].to_numpy(),
                target: np.where(right, outcome, 1 - outcome),
            }
        )
        write_table(table, tmp_path / name)
        return tmp_path / name

    return client, ref, written


def test_the_hub_makes_the_gate_report(hub, judged):
    """A judgement stores what the version itself answered; the report, not the caller, opens the promotion."""
    client, ref, written = judged
    with pytest.raises(PromotionRefused, match="has no gate report"):
        client.promote(ref)
    failed = client.judge(ref, written(0.5))
    assert (failed.passed, client.version(ref).governance.policy_compliant.by) == (False, "test")
    with pytest.raises(PromotionRefused, match=f"report {failed.report_digest} is {failed.verdict}"):
        client.promote(ref)
    passed = client.judge(ref, written(1.0, target="other"), target="other")
    assert passed.passed
    assert hub.parts.registry.lifecycle.gate_records(ref) == (failed, passed)
    assert client.promote(ref).production == 1
    decided = [e.event for e in client.events(subject=str(ref)).entries if e.event.type == "gate.decided"]
    assert [event.actor for event in decided] == [hub.principal("admin")] * 2
    with pytest.raises(Conflict, match="in comparison with that version"):
        client.judge(ref, written(1.0))


def test_rows_that_cannot_be_judged_leave_no_report(hub, judged, tmp_path):
    """A file that is no table, that has no rows, or no outcomes, is refused with what is needed."""
    client, ref, written = judged
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    write_table(Table({"age": np.empty(0), "income": np.empty(0), "bad": np.empty(0)}), tmp_path / "empty.parquet")
    for rows in (tmp_path / "no.parquet", tmp_path / "empty.parquet", written(1.0, target="other")):
        with pytest.raises(InvalidInput):
            client.judge(ref, rows)
    assert hub.parts.registry.lifecycle.gate_records(ref) == ()
