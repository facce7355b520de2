"""The commands of registry and healing against a running hub."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from mendel.app.cli.main import main
from mendel.serving import write_artifact
from support.principals import ME
from support.remote_peers import remote_peer


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def mendel(over_http, monkeypatch, capsys):
    """Runs ``mendel`` on the hub's directory."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mendel", *map(str, arguments), "-C", str(over_http.directory)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(ended.value.code or 0, said.out, said.err)

    return run


@pytest.fixture
def hub(over_http):
    return over_http


def test_a_model_on_other_servers_is_promoted(hub, mendel, tmp_path):
    """The servers tell signature and task; without parity the version needs a reason, then it is like any other."""
    frame = pd.DataFrame({"age": [31, 42], "income": [1.5, 3.0]})
    fitted = LogisticRegression().fit(frame, [0, 1])
    with remote_peer() as peer:
        peer.serve("scoring", tmp_path, write_artifact(fitted, tmp_path, training=frame))
        said = mendel(
            "register",
            "scores",
            "--remote",
            f"{peer.address()},http://127.0.0.1:9",
            "--remote-model",
            "scoring",
            "--json",
        )
        twice = mendel("register", "scores", "--remote", peer.address(), "--image", "x:1")
    assert said.code == 0, said.err
    record = said.json
    assert (record["flavor"], record["task"], record["stage"]) == ("remote", "classification", "development")
    assert [column["name"] for column in record["signature"]["inputs"]] == ["age", "income"]
    assert "s3cret" not in mendel("register", "scores", "--remote", "http://u:s3cret@a:1").err
    gone = mendel("register", "gone", "--remote", "http://127.0.0.1:9")
    assert (gone.code, twice.code) == (1, 2)
    assert "cannot be reached" in gone.err
    refused = mendel("stage", "scores@1", "sandbox")
    assert (refused.code, "the model runs on other servers" in refused.err) == (1, True)
    assert "mendel probe" not in refused.err
    assert mendel("stage", "scores@1", "sandbox", "--without-parity", "bought").code == 0
    assert mendel("approve", "scores@1", "--policy", "--bias").code == 0
    assert "scores@1" in mendel("promote", "scores@1").out


def test_a_version_lives_by_commands(hub, mendel, model):
    """Approve, stage, promote, roll back: each says what it did in one line."""
    for _ in range(2):
        hub.register(model)
    said = []
    for number in (1, 2):
        ref = f"{model}@{number}"
        said += [
            mendel("approve", ref, "--policy", "--bias").out,
            mendel("stage", ref, "sandbox", "--reason", "fit").out,
            mendel("promote", ref, "--generation", number - 1, "--reason", "next").out,
        ]
    assert said[:3] == [
        f"{model}@1: approved policy bias\n",
        f"{model}@1 is in sandbox\n",
        f"{model}@1 is in production (generation 1)\n",
    ]
    planned = mendel("rollback", model, "--reason", "x", "--dry-run").out
    assert planned.startswith(f"{model} would return from {model}@2 to {model}@1")
    done = mendel("rollback", model, "--reason", "it faults").out
    assert done == f"{model} returned from {model}@2 to {model}@1 (generation 3)\n"
    history = mendel("history", model).out.splitlines()
    assert [line.split()[0] for line in history[2:]] == ["1", "2", "1"]
    assert "Model Card" in mendel("card", f"{model}@1").out
    assert mendel("undeploy", model, "--reason", "done").out == f"{model} serves nothing (generation 4)\n"


def test_what_is_beside_production_or_later_by_commands(hub, mendel, model):
    """Canary in steps, shadow, fallback and planned promotions: each says what it did and is listed."""
    hub.promoted(model)
    for _ in range(2):
        hub.ready(model)
    assert mendel("canary", f"{model}@2").out == f"{model}@2 gets 5% of the traffic (generation 2)\n"
    assert "1 of 3" in mendel("canaries", model).out
    assert mendel("shadow", f"{model}@3").out == f"{model}@3 is the shadow of {model} (generation 3)\n"
    assert mendel("shadow", model, "--off").out == f"{model} has no shadow (generation 4)\n"
    assert mendel("fallback", f"{model}/3").out == f"{model}@3 is the fallback of {model} (generation 5)\n"
    planned = mendel("promote", f"{model}@3", "--at", "2999-01-01T00:00Z", "--reason", "much later").out
    assert planned.startswith(f"{model}@3 waits until 2999-01-01 00:00:00 UTC")
    assert "waiting" in mendel("promotions", "list", model).out
    assert mendel("promotions", "cancel", model).out == f"The promotion of {model}@3 is cancelled.\n"
    assert "MLflow has no version" in mendel("models", "foreign", model).out


def test_the_past_by_commands(hub, mendel, model):
    """History at a point, a diff, and a rollback to a point tell and restore what was; a number is a version there."""
    hub.promoted(model, 2)
    entries = hub.client.events(subject=model).entries
    first, second = (one.sequence for one in entries if one.event.type == "model.promoted")
    past = mendel("history", model, "--at", f"seq:{first}")
    assert past.out.splitlines()[2].split()[:2] == [model, "1"]
    assert "production" in past.out
    (shown,) = mendel("history", model, "--at", first, "--json").json["models"]
    assert shown["deployment"]["routes"] == [{"share": 1.0, "version": 1}]
    assert model in mendel("history", "--at", "0s").out
    changed = mendel("diff", "--from", first, "--to", second).out
    assert f"{model}@2" in changed
    assert "stage: sandbox -> production" in changed
    rows = mendel("diff", "--from", first, "--json").json["rows"]
    assert ("deployment", model, "changed") in {(row["kind"], row["row"], row["change"]) for row in rows}
    planned = mendel("rollback", model, "--to", f"seq:{first}", "--reason", "x", "--dry-run")
    assert planned.out.startswith(f"{model} would return from {model}@2 to {model}@1")
    assert mendel("rollback", model, "--to", "1000d", "--reason", "x").code == 1
    assert mendel("diff", "--from", second, "--to", first).code != 0


def test_a_version_without_rows_leaves_development_by_a_file_or_a_reason(hub, mendel, tmp_path):
    """Both ways out over HTTP: the refusal names them, the version, its card and the ledger say which was taken."""
    file, rows = tmp_path / "rows.csv", np.random.default_rng(1).normal(size=(30, 2))
    pd.DataFrame(rows).to_csv(file, index=False)
    probed, waived = hub.new_model(), hub.new_model()
    for model in (probed, waived):
        hub.register(model, tree="bare")
        refused = mendel("stage", f"{model}@1", "sandbox")
        assert refused.code == 1
        assert f"mendel probe {model}@1 --data FILE" in refused.err
        assert f"mendel stage {model}@1 sandbox --without-parity WHY" in refused.err
    said = mendel("probe", f"{probed}@1", "--data", file)
    assert "Parity probed from file rows.csv" in said.out, said.err
    assert mendel("stage", f"{probed}@1", "sandbox", "--json").json["without_parity"] is None
    assert mendel("stage", f"{waived}@1", "sandbox", "--without-parity", "no rows left").code == 0
    told = mendel("parity", "show", f"{waived}@1", "--json").json["without_parity"]
    assert (told["reason"], told["unmeasured"]) == ("no rows left", "the version has no probe rows")
    assert told["by"] == ME
    assert "no rows left" in mendel("card", f"{waived}@1").out
    assert [event.data["reason"] for event in hub.events(f"{waived}@1", "model.parity_waived")] == ["no rows left"]
    assert mendel("parity", "show", f"{probed}@1").out == said.out


def test_json_of_every_command_is_json(hub, mendel, model):
    """--json of what shows and of what changes gives the noun."""
    hub.promoted(model, 2)
    third = hub.ready(model)
    assert mendel("versions", model, "--json").json[0]["ref"] == {"model": model, "number": 1}
    assert model in {report["model"] for report in mendel("models", "--json").json}
    assert len(mendel("history", model, "--json").json) == 2
    assert mendel("models", "show", model, "--json").json["row"]["production"] == 2
    assert mendel("canary", third, "0.1", "--json").json["routes"][1]["share"] == 0.1
    assert mendel("stage", third, "sandbox", "--json").json["stage"] == "sandbox"
    assert mendel("approve", third, "--bias", "--json").json["governance"]["bias_check_passed"]["by"] == ME
    assert mendel("promote", third, "--json").json["generation"] == 5
    assert mendel("rollback", model, "--reason", "x", "--json").json["to_version"]["number"] == 2
    assert mendel("monitor", model, "--json").json["model"] == model
    assert mendel("health", model, "--json").json["health_status"] in {"unknown", "critical"}
    assert mendel("rollback-check", model, "--json").json["version"] == 2
    assert mendel("playbook", model, "notify", "--json").json["playbook"] == "notify"
    assert mendel("runs", "--model", model, "--json").json[0]["ref"]["model"] == model
    assert mendel("stats", model, "--json").json["model"] == model
    assert mendel("ledger", "show", "--subject", model, "--json").json["entries"]
    assert mendel("ledger", "verify", "--json").json["first"] == 1


def test_every_reason_is_a_line(hub, mendel, model):
    """A refused promotion ends with 1 and lists what stands against it, then what to do."""
    hub.register(model)
    hub.client.change_stage(f"{model}@1", "sandbox")
    refused = mendel("promote", f"{model}@1")
    assert (refused.code, refused.out) == (1, "")
    lines = refused.err.splitlines()
    assert lines[0].startswith(f"error: The version {model}@1 cannot serve users.")
    assert lines[1:] == [
        f"  - Policy compliance of {model}@1 is not approved.",
        f"  - The bias check of {model}@1 is not approved.",
        f"  Approve the version with: mendel approve {model}@1 --policy --bias",
    ]
    stale = mendel("promote", f"{model}@1", "--generation", "4")
    assert stale.code == 1
    assert "is at generation 0, not 4" in stale.err


def test_labels_come_from_files(mendel, tmp_path):
    """Imported labels are counted; a file without the column is refused."""
    path = tmp_path / "labels.csv"
    path.write_text(f"prediction_id,true_label\n{uuid4()},1\n")
    assert (
        mendel("labels", "import", path).out
        == "1 labels accepted; labels of unknown predictions are kept until the predictions arrive.\n"
    )
    refused = mendel("labels", "import", path, "--label-column", "y")
    assert refused.code == 1
    assert "no column 'y'" in refused.err


def test_looking_says_what_it_found(hub, mendel, model):
    """A look at a healthy model says that there is nothing to do, and when drift and quality are studied next."""
    hub.promoted(model)
    said = mendel("monitor", model)
    assert said.code == 0
    *_, decision, study = said.out.splitlines()
    assert decision == "Nothing to do."
    assert study.startswith("Next study of drift and quality: ")


def test_what_other_systems_measured_is_judged_by_command(hub, mendel, model):
    """A pushed snapshot is answered with the bounds; a share above 1 is a usage error; counters cannot be pretended."""
    (ref,) = hub.promoted(model)
    said = mendel("snapshot", ref, "--requests", "600", "--error-rate", "0.08", "--drift", "0.3")
    assert said.code == 0, said.err
    first, second, *readings = said.out.splitlines()
    assert (first, second) == (f"{ref}: medium, beyond the bounds", "! High error rate: 8.00%")
    assert "  drift          0.3 (bound 0.3)" in readings
    assert mendel("rollback-check", model).out.splitlines()[0] == first
    assert mendel("health", model).out.splitlines()[1] == "  High error rate: 8.00%"
    assert mendel("snapshot", ref, "--requests", "600", "--ood-rate", "21.67").code == 2
    refused = mendel("snapshot", ref, "--requests", "600", "--error-rate", "0", "--source", "counters")
    assert (refused.code, "is reserved" in refused.err) == (1, True)


def test_a_card_can_be_a_file(hub, mendel, model, tmp_path):
    """--output writes the card and says where."""
    hub.register(model)
    path = tmp_path / "card.md"
    assert mendel("card", f"{model}@1", "--output", path).out == f"{path}\n"
    assert path.read_text(encoding="utf-8").startswith("---\n")
