"""Causes: the table, row by row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mendel.errors import InvalidPolicy
from mendel.healing import (
    REMEDIES,
    Cause,
    Circumstances,
    Evidence,
    HealingPolicy,
    Remedies,
    Signal,
    SignalKind,
    cause_of,
    diagnose,
)
from mendel.values import ModelName, Severity, VersionRef

NEW = Circumstances(newly_promoted=True, former=True)
OLD = Circumstances(newly_promoted=False, former=True)
FIRST = Circumstances(newly_promoted=True, former=False)


def signal(kind, severity=Severity.MEDIUM, **more):
    return Signal(
        kind=SignalKind(kind),
        ref=VersionRef(ModelName("credit"), 2),
        severity=severity,
        at=datetime(2026, 3, 1, tzinfo=UTC),
        reasons=(kind,),
        evidence=Evidence(policy_hash="h", readings={}),
        **more,
    )


@pytest.mark.parametrize(
    ("kind", "circumstances", "cause", "remedies"),
    [
        ("faults", OLD, "faults", Remedies(in_bake="model_rollback", as_bad="notify")),
        ("latency", OLD, "latency", Remedies(in_bake="model_rollback", as_bad="notify")),
        ("drift", NEW, "drift", Remedies(as_bad="retrain")),
        ("drift_score", NEW, "drift", Remedies(as_bad="retrain")),
        ("ood", NEW, "ood", Remedies(as_bad="retrain")),
        ("quality", NEW, "quality", Remedies(as_bad="retrain")),
        ("load_failure", NEW, "load_failure", Remedies(at_once="model_rollback")),
        ("load_failure", OLD, "servers", Remedies(at_once="notify")),
        ("not_converging", NEW, "not_converging", Remedies(at_once="notify")),
        ("not_converging", OLD, "not_converging", Remedies(at_once="notify")),
        ("unavailable", NEW, "servers", Remedies(at_once="notify")),
    ],
)
def test_the_table(kind, circumstances, cause, remedies):
    """Each signal has its cause and its remedies, by what else is known."""
    found = cause_of(signal(kind), circumstances)
    assert found == cause
    assert REMEDIES[found] == remedies


@pytest.mark.parametrize(
    ("circumstances", "only_here", "cause"),
    [(NEW, True, "regression"), (NEW, False, "quality"), (OLD, True, "quality"), (FIRST, True, "quality")],
)
def test_low_quality_is_the_version_s_only_if_new_and_low_from_the_start(circumstances, only_here, cause):
    """Low quality rolls back only a new version that was low from its first rows, with a former one to return to."""
    assert cause_of(signal("quality", only_since_version=only_here), circumstances) == cause


def test_drift_in_the_same_look_clears_the_version():
    """Quality that is low while inputs have moved is the world's doing: one diagnosis, named after the drift."""
    (found,) = diagnose([signal("quality", only_since_version=True), signal("drift", Severity.LOW)], NEW)
    assert found.cause is Cause.DRIFT
    assert found.severity is Severity.MEDIUM
    assert set(found.kinds) == {SignalKind.DRIFT, SignalKind.QUALITY}


def test_faults_and_drift_are_two_origins():
    """What the version does wrong and what the world does are told apart."""
    found = diagnose([signal("drift"), signal("faults"), signal("latency")], OLD)
    assert [one.cause for one in found] == [Cause.FAULTS, Cause.DRIFT]


def test_a_version_that_has_served_is_not_at_fault_when_it_cannot_be_loaded():
    """What served before fails to load because of what has changed since: the server, its disk, its packages."""
    assert cause_of(signal("load_failure"), NEW) is Cause.LOAD_FAILURE
    assert cause_of(signal("load_failure", served_before=True), NEW) is Cause.SERVERS


def test_a_canary_that_cannot_be_loaded_has_a_cause_of_its_own():
    """A canary is never in production; the production version is not blamed for it."""
    canary = Circumstances(newly_promoted=False, former=True, canary=True)
    assert cause_of(signal("load_failure"), canary) is Cause.CANARY_LOAD_FAILURE
    assert cause_of(signal("load_failure", served_before=True), canary) is Cause.SERVERS


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"cooldwn": "3s"}, "did you mean 'cooldown'"),
        ({"remedies": {"fault": "notify"}}, "did you mean 'faults'"),
        ({"profile": "modern"}, "default, classic"),
        ({"autonomy": {"rollback": "always"}}, "rollback"),
        ({"cooldown": "soon"}, "duration"),
        ({"replay_within": "0s"}, "longer than 0"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(section, words):
    """Unknown keys, causes, levels and durations are refused, naming what is near."""
    with pytest.raises(InvalidPolicy, match=words):
        HealingPolicy.of({"healing": section})
