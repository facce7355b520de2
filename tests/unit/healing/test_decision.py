"""Decisions: every guard, alone at its boundary and together under hypothesis."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.healing import (
    Act,
    Autonomy,
    Cause,
    Facts,
    HealingPolicy,
    Incident,
    IncidentContext,
    Level,
    Observe,
    Pause,
    PlaybookRun,
    Propose,
    Rule,
    RunState,
    SignalKind,
    Wait,
    decide,
    shipped_playbooks,
)
from mendel.retraining import LabelSupply
from mendel.values import ModelName, Severity, VersionRef

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = ModelName("credit")
BOOKS = shipped_playbooks()
DEFAULT = HealingPolicy()
READY = LabelSupply(have=500, need=200, coverage=1.0, need_coverage=0.3)
OFF = Pause(model=None, by="ann", at=NOW, reason="night")


def incident(cause=Cause.FAULTS, **more):
    context = IncidentContext(
        model_version="2", stage="production", reasons=("High error rate: 8.00%",), policy_hash="h"
    )
    return Incident(
        id="INC-2026-1",
        ref=VersionRef(MODEL, 2),
        cause=cause,
        severity=Severity.MEDIUM,
        title="",
        description="",
        context=context,
        opened_at=NOW,
        last_seen=NOW,
        kinds=(SignalKind.FAULTS,),
        **more,
    )


def run(playbook="retrain", state=RunState.SUCCEEDED, *, started=timedelta(hours=5), took=timedelta(minutes=1), **more):
    start = NOW - started
    return PlaybookRun(
        id=more.pop("id", f"INC-2026-0-{playbook}-{started.total_seconds()}"),
        incident=more.pop("incident", "INC-2026-0"),
        ref=VersionRef(MODEL, 2),
        playbook=playbook,
        document=BOOKS[playbook],
        policy={},
        policy_hash="h",
        state=state,
        created_at=start,
        reason="",
        facts={},
        started_at=None if state is RunState.PROPOSED else start,
        finished_at=start + took if state.over else None,
    )


def facts(playbook="model_rollback", **more):
    return Facts(**{"policy_hash": "h", "playbook": BOOKS[playbook], "return_to": 1, "supply": READY, **more})


def decided(cause=Cause.FAULTS, policy=DEFAULT, **more):
    remedy = policy.remedy(cause)
    return decide(incident(cause), policy, facts(remedy, **more), NOW)


def test_by_default_faults_roll_back():
    """A faulting version is rolled back by itself, and the decision names the evidence and the policy."""
    decision = decided()
    assert isinstance(decision, Act)
    assert decision.playbook == "model_rollback"
    assert decision.reasons == ("the remedy for faults is model_rollback", "High error rate: 8.00%")
    assert decision.policy_hash == "h"


def test_by_default_drift_trains_up_to_a_candidate():
    """Under ``retrain: propose`` the training starts by itself, since nothing live changes before the promotion."""
    assert isinstance(decided(Cause.DRIFT), Act)


@pytest.mark.parametrize(
    ("retrain", "promote", "level"),
    [
        ("act", "act", "act"),
        ("act", "propose", "propose"),
        ("propose", "act", "propose"),
        ("observe", "act", "observe"),
    ],
)
def test_promotion_acts_only_where_both_keys_say_so(retrain, promote, level):
    """A candidate is promoted by itself only where both ``retrain`` and ``promote`` are ``act``."""
    assert Autonomy(retrain=Level(retrain), promote=Level(promote)).of("promote") == level


def test_a_rollback_that_may_only_be_proposed():
    """Under ``rollback: propose`` a person is asked."""
    policy = HealingPolicy(autonomy=Autonomy(rollback=Level.PROPOSE))
    decision = decided(policy=policy)
    assert isinstance(decision, Propose)
    assert decision.playbook == "model_rollback"


def test_observing_does_nothing():
    """Under ``observe`` nothing is started or proposed, and nobody is called."""
    decision = decided(policy=HealingPolicy(autonomy=Autonomy(rollback=Level.OBSERVE)))
    assert isinstance(decision, Observe)
    assert not decision.escalate


def test_the_kill_switch():
    """A pause stops every decision to act, and says who and why."""
    decision = decided(pause=OFF)
    assert isinstance(decision, Wait)
    assert decision.rule is Rule.PAUSED
    assert "ann" in decision.reasons[0]


def test_nothing_to_return_to():
    """Without a former version a rollback is not started; the incident stays open and asks for a person."""
    decision = decided(return_to=None)
    assert isinstance(decision, Observe)
    assert (decision.rule, decision.escalate) == (Rule.NOTHING_TO_RETURN_TO, True)


@pytest.mark.parametrize("state", [RunState.INEFFECTIVE, RunState.REJECTED, RunState.FAILED])
def test_what_did_not_help_is_not_tried_again(state):
    """A playbook that did not help on an incident escalates it instead of running again."""
    decision = decided(tried=(run("model_rollback", state),))
    assert isinstance(decision, Observe)
    assert (decision.rule, decision.escalate) == (Rule.DID_NOT_HELP, True)


def test_another_playbook_may_still_be_tried():
    """What one playbook could not mend, another may."""
    assert isinstance(decided(tried=(run("notify", RunState.INEFFECTIVE),)), Act)


@pytest.mark.parametrize(("times", "kind"), [(2, Act), (3, Observe)])
def test_an_undecided_candidate_is_looked_at_three_times(times, kind):
    """A training whose candidate could not be judged may be repeated, until three have been."""
    spans = [timedelta(hours=hours) for hours in range(1, times + 1)]
    tried = tuple(run("retrain", RunState.UNDECIDED, started=span) for span in spans)
    assert isinstance(decided(Cause.DRIFT, tried=tried), kind)


def test_what_was_declined_is_not_proposed_again():
    """A person's no stands for this incident."""
    decision = decided(tried=(run("model_rollback", RunState.DECLINED),))
    assert isinstance(decision, Observe)
    assert decision.rule is Rule.DECLINED


def test_one_run_of_a_model_at_a_time():
    """While a run of the model is active, another waits for it."""
    decision = decided(Cause.DRIFT, runs=(run("retrain", RunState.RUNNING),))
    assert isinstance(decision, Wait)
    assert decision.rule is Rule.ACTIVE_RUN


def test_a_rollback_does_not_wait_for_a_training():
    """A rollback takes precedence over a training that is under way, but not over another rollback."""
    training, back = run("retrain", RunState.RUNNING, id="t"), run("model_rollback", RunState.RUNNING)
    decision = decided(runs=(training,))
    assert isinstance(decision, Act)
    assert decision.preempts == "t"
    assert isinstance(decided(runs=(back,)), Wait)


@pytest.mark.parametrize(("ago", "kind"), [(timedelta(minutes=29, seconds=59), Wait), (timedelta(minutes=30), Act)])
def test_the_cooldown_ends_exactly(ago, kind):
    """Thirty minutes after the last run's end, and not a second before, the next may start."""
    last = run("retrain", started=ago + timedelta(minutes=1))
    decision = decided(Cause.DRIFT, runs=(last,))
    assert isinstance(decision, kind)
    if isinstance(decision, Wait):
        assert decision.until == NOW - ago + timedelta(minutes=30)


def test_a_rollback_is_exempt_from_the_cooldown():
    """What a retraining just promoted can be taken back at once."""
    assert isinstance(decided(runs=(run("retrain", started=timedelta(minutes=2)),)), Act)


@pytest.mark.parametrize(("ago", "kind"), [(timedelta(minutes=29), Wait), (timedelta(minutes=30), Act)])
def test_rollbacks_do_not_flap(ago, kind):
    """A version that a rollback put in place is not left again by a rollback within the cooldown."""
    decision = decided(placed_by_rollback=NOW - ago)
    assert isinstance(decision, kind)


@pytest.mark.parametrize(("many", "kind"), [(3, Act), (4, Wait)])
def test_runs_a_day(many, kind):
    """The fifth run within a day waits until the first is a day old."""
    runs = tuple(run("retrain", started=timedelta(hours=hours)) for hours in range(2, 2 + many))
    decision = decided(Cause.DRIFT, runs=runs)
    assert isinstance(decision, kind)
    if isinstance(decision, Wait):
        assert decision.until == NOW - timedelta(hours=5) + timedelta(days=1)


def test_harmless_playbooks_do_not_count_and_do_not_wait():
    """Telling somebody needs no cooldown, and does not use up a run."""
    told = tuple(run("notify", started=timedelta(minutes=minutes)) for minutes in range(1, 9))
    assert isinstance(decided(Cause.SERVERS, runs=told), Act)
    assert isinstance(decided(Cause.DRIFT, runs=told), Act)


@pytest.mark.parametrize(("have", "kind"), [(199, Wait), (200, Act)])
def test_a_training_waits_for_labels(have, kind):
    """A training starts by itself with the last label it needs, and says before what is missing."""
    decision = decided(Cause.DRIFT, supply=replace(READY, have=have))
    assert isinstance(decision, kind)
    if isinstance(decision, Wait):
        assert decision.reasons == ("waiting for labels: 199 of 200",)


def test_a_training_waits_for_the_gates_cooldown():
    """A training whose candidate could only fail the cooldown gate waits for its end."""
    supply = replace(READY, cooldown=timedelta(days=7))
    decision = decided(Cause.DRIFT, supply=supply, last_change=NOW - timedelta(days=6))
    assert isinstance(decision, Wait)
    assert decision.until == NOW + timedelta(days=1)


def test_an_unknown_remedy_escalates():
    """A remedy that names no playbook asks for a person, and says which name it was."""
    policy = HealingPolicy(remedies={"faults": "magic"})
    decision = decide(incident(), policy, Facts(policy_hash="h"), NOW)
    assert isinstance(decision, Observe)
    assert (decision.escalate, decision.reasons) == (True, ("the policy's remedy magic is not a playbook",))


spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=30))
states = st.sampled_from(list(RunState))
names = st.sampled_from(sorted(BOOKS))
runs = st.lists(
    st.builds(
        lambda book, state, ago: run(book, state, started=ago, took=min(ago, timedelta(minutes=3))),
        names,
        states,
        spans,
    ),
    max_size=6,
).map(tuple)
levels = st.builds(
    Autonomy, rollback=st.sampled_from(Level), retrain=st.sampled_from(Level), promote=st.sampled_from(Level)
)
policies = st.builds(
    HealingPolicy,
    autonomy=levels,
    cooldown=st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=2)),
    max_runs_per_day=st.integers(0, 5),
)


@st.composite
def situations(draw):
    policy = draw(policies)
    one = incident(draw(st.sampled_from(Cause)), escalated=draw(st.booleans()))
    remedy = policy.remedy(one.cause)
    found = facts(
        remedy,
        pause=draw(st.sampled_from([None, None, OFF])),
        runs=draw(runs),
        tried=draw(runs),
        return_to=draw(st.sampled_from([None, 1])),
        placed_by_rollback=draw(st.none() | spans.map(lambda ago: NOW - ago)),
        last_change=draw(st.none() | spans.map(lambda ago: NOW - ago)),
        supply=draw(st.none() | st.builds(lambda n, s: replace(READY, have=n, cooldown=s), st.integers(0, 400), spans)),
    )
    return one, policy, found


@given(situations())
def test_guards_hold_together(situation):
    """Whatever else is true: never against the kill switch, above the day's runs, in a cooldown, or twice in vain."""
    one, policy, found = situation
    decision = decide(one, policy, found, NOW)
    if not isinstance(decision, Act):
        return
    assert found.pause is None
    assert not one.escalated
    assert not any(r.playbook == decision.playbook and r.state.unhelpful for r in found.tried)
    book = BOOKS[decision.playbook]
    assert book.autonomy != "retrain" or (found.supply is not None and found.supply.have >= found.supply.need)
    running = [r for r in found.runs if r.state is RunState.RUNNING]
    if running:
        assert book.urgent
        assert decision.preempts in {r.id for r in running}
    if book.harmless:
        return
    acted = [r for r in found.runs if r.started_at is not None and r.playbook != "notify"]
    assert sum(r.started_at > NOW - timedelta(days=1) for r in acted) < policy.max_runs_per_day
    if book.urgent:
        assert found.placed_by_rollback is None or found.placed_by_rollback + policy.cooldown <= NOW
    else:
        assert all(r.finished_at is None or r.finished_at + policy.cooldown <= NOW for r in acted)


def reach(decision):
    return {Act: 2, Propose: 1}.get(type(decision), 0)


@given(situations(), levels)
def test_more_autonomy_never_does_less(situation, other):
    """Raising every key of the autonomy never turns acting into proposing, or proposing into waiting for a level."""
    one, policy, found = situation
    keys = ("rollback", "retrain", "promote", "notify")
    lower = {k: min(getattr(policy.autonomy, k), getattr(other, k), key=lambda v: v.rank) for k in keys}
    less = decide(one, replace(policy, autonomy=Autonomy(**lower)), found, NOW)
    more = decide(one, policy, found, NOW)
    if isinstance(less, Act):
        assert isinstance(more, Act)
    if isinstance(less, Propose):
        assert reach(more) >= 1 or isinstance(more, Wait)


@given(situations())
def test_deciding_is_repeatable(situation):
    """The same evidence gives the same decision."""
    one, policy, found = situation
    assert decide(one, policy, found, NOW) == decide(one, policy, found, NOW)
