"""What the commands that watch a model print."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mendel.app.cli.tables import VERSIONS
from mendel.app.cli.watch import incident_lines, outlook_lines
from mendel.app.server.serve_options import ServeOptions, log_style
from mendel.app.settings import Settings
from mendel.healing import Incident, LookResult, SignalKind, TimelineEntry
from mendel.healing.entities import Cause, Finding, IncidentContext
from mendel.projects import load_project
from mendel.registry import Improvement, VersionRecord
from mendel.values import Digest, ModelName, Severity, Stage, VersionRef, VersionUuid
from mendel.views import IncidentView

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
REF = VersionRef.parse("credit@2")
LOOK = LookResult(
    model=REF.model,
    ref=REF,
    at=NOW,
    looked=(
        Finding(kind=SignalKind.DRIFT, text="drift not measured: no reference", measured=False),
        Finding(kind=SignalKind.OOD, text="OOD rate 0.1 (bound 0.2)", measured=True),
    ),
    next_study=NOW + timedelta(minutes=5),
)


def test_a_finding_names_its_kind_once_and_the_next_study_follows():
    """A line has the kind and then the finding without the kind; the last line says when the log is studied next."""
    lines = list(outlook_lines(LOOK, hub_runs=True))
    assert lines[:2] == ["  drift           not measured: no reference", "  ood             OOD rate 0.1 (bound 0.2)"]
    assert lines[2:] == ["Nothing to do.", "Next study of drift and quality: 2026-01-01 12:05:00 UTC"]


def test_without_a_hub_no_study_is_promised():
    """Without a hub, the last line says that nothing is studied, and what starts it."""
    assert list(outlook_lines(LOOK, hub_runs=False))[-1].endswith("until you start one: mendel up")


def test_an_incident_is_one_timeline():
    """The entries of an incident, decisions among them, stand once and in the order of their time."""
    incident = Incident(
        id="INC-2026-1",
        ref=REF,
        cause=Cause.DRIFT,
        severity=Severity.LOW,
        title="Input drift: credit",
        description="moved",
        context=IncidentContext(model_version="credit@2", stage="production", reasons=("moved",), policy_hash="h"),
        opened_at=NOW,
        last_seen=NOW,
        kinds=(SignalKind.DRIFT,),
        timeline=(
            TimelineEntry(at=NOW + timedelta(seconds=2), kind="started", text="retrain started"),
            TimelineEntry(at=NOW, kind="opened", text="drift: moved"),
            TimelineEntry(at=NOW + timedelta(seconds=1), kind="decided", text="act retrain: moved"),
        ),
    )
    lines = list(incident_lines(IncidentView(incident=incident, decisions=(), runs=())))
    assert [line.split()[1] for line in lines[2:]] == ["opened", "decided", "started"]


def test_the_parent_of_an_improvement_is_its_baseline():
    """The list of versions names the baseline of an improvement as parent."""
    record = VersionRecord(
        ref=REF,
        uuid=VersionUuid(f"m-{1:032x}"),
        run_id=None,
        stage=Stage.DEVELOPMENT,
        flavor="sklearn",
        task="classification",
        artifact_digest=Digest(f"sha256:{0:064x}"),
        registered_at=NOW,
        idempotency_key="k",
    )
    better = replace(
        record,
        improvement=Improvement(
            baseline=VersionRef(ModelName("credit"), 1), contributor="0x" + "a" * 40, delta_metrics={}
        ),
    )
    assert [VERSIONS.row(one)[5] for one in (record, better)] == ["-", VersionRef.parse("credit/1")]


def test_logs_are_text_on_a_terminal_else_json(tmp_path):
    """One rule for hub and server; the setting overrides the rule and the project, and the project the rule."""
    assert [Settings().json_log(terminal=here) for here in (True, False)] == [False, True]
    assert [
        Settings(log_format="json").json_log(terminal=True),
        Settings(log_format="text").json_log(terminal=False),
    ] == [
        True,
        False,
    ]
    text = "classifier: {name: one}\npredictor: {module: model, class_name: Model}\n"
    (tmp_path / "mlserver.yaml").write_text(text + "server: {logger: {structured: false}}\n", encoding="utf-8")
    project, chosen = load_project(tmp_path), ServeOptions(chosen=frozenset({"log_format"}))
    assert log_style(Settings(), None, ServeOptions()).structured  # a test's standard error is no terminal
    assert not log_style(Settings(), project, ServeOptions()).structured
    assert log_style(Settings(log_format="json"), project, chosen).structured
