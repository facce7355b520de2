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
    SignalState,
    Wait,
    decide,
    remedy_for,
    shipped_playbooks,
)
from mendel.retraining import LabelSupply
from mendel.values import ModelName, Severity, VersionRef

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = ModelName("credit")
BOOKS = shipped_playbooks()
DEFAULT = HealingPolicy()
READY = LabelSupply(have=500, need=200, coverage=1.0, need_coverage=0.3)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
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
        **{"kinds": (SignalKind.FAULTS,), **more},
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
        facts=more.pop("facts", {}),
        started_at=None if state is RunState.PROPOSED else start,
        finished_at=start + took if state.over else None,
    )


def replayed(former, **more):
    """The run in which the former version answered the incident's rows."""
    facts = {} if former is None else {"former": former, "compared": "f1 0.8 and 0.7"}
    return run("replay_former", facts=facts, **{"started": timedelta(minutes=1), **more})


def facts(one=None, policy=DEFAULT, **more):
    """Facts about a version that is one hour old and has a former one; the playbook is the remedy's."""
    known = {"policy_hash": "h", "return_to": 1, "supply": READY, "served_for": timedelta(hours=1), **more}
    found = Facts(**known)
    return replace(found, playbook=BOOKS.get(remedy_for(one or incident(), policy, found).playbook))


def decided(cause=Cause.FAULTS, policy=DEFAULT, **more):
    """The decision about an incident; where the data changed, the former version was asked and is as bad."""
    one = more.pop("one", None) or incident(cause)
    if one.cause.may_retrain:
        more["tried"] = (replayed("as_bad"), *more.get("tried", ()))
    return decide(one, policy, facts(one, policy, **more), NOW)


def test_by_default_faults_roll_back():
    """A faulting version is rolled back by itself, and the decision names the evidence and the policy."""
    decision = decided()
    assert isinstance(decision, Act)
    assert decision.playbook == "model_rollback"
    assert decision.reasons == (
        "the remedy for faults is model_rollback, because credit@2 is new (healing.bake is 1d)",
        "High error rate: 8.00%",
    )
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


@pytest.mark.parametrize("profile", ["default", "classic"])
@pytest.mark.parametrize(("ago", "rule"), [(DAY - SECOND, Rule.FLAPPING), (DAY, Rule.REMEDY)])
def test_nobody_walks_back_through_versions(ago, rule, profile):
    """For the bake window, a version that a rollback by healing returned is not rolled back: a person is asked."""
    decision = decided(policy=HealingPolicy(profile=profile), placed_by_rollback=NOW - ago)
    assert decision.rule is rule
    assert getattr(decision, "escalate", False) is (rule is Rule.FLAPPING)


def test_a_new_version_is_rolled_back_on_the_counters_alone():
    """Within the bake window, errors and latency roll back at once; from its end on, the former version is asked."""
    for cause in (Cause.FAULTS, Cause.LATENCY):
        assert decided(cause, served_for=DAY - SECOND).playbook == "model_rollback"
        assert decided(cause, served_for=DAY).playbook == "replay_former"


@pytest.mark.parametrize(
    ("cause", "former", "playbook"),
    [
        (Cause.FAULTS, "better", "model_rollback"),
        (Cause.FAULTS, "as_bad", "notify"),
        (Cause.FAULTS, "unknown", "notify"),
        (Cause.FAULTS, None, "notify"),
        (Cause.LATENCY, "as_bad", "notify"),
        (Cause.DRIFT, "better", "model_rollback"),
        (Cause.DRIFT, "as_bad", "retrain"),
        (Cause.DRIFT, "unknown", "notify"),
        (Cause.OOD, "as_bad", "retrain"),
        (Cause.QUALITY, "better", "model_rollback"),
        (Cause.QUALITY, "as_bad", "retrain"),
        (Cause.REGRESSION, "better", "model_rollback"),
        (Cause.REGRESSION, "as_bad", "retrain"),
        (Cause.REGRESSION, None, "notify"),
    ],
)
def test_the_former_version_decides_about_an_old_one(cause, former, playbook):
    """After 200 days, a version is rolled back only if the former one does better; without a result, people hear."""
    one = incident(cause)
    found = facts(one, served_for=200 * DAY, tried=(replayed(former),))
    decision = decide(one, DEFAULT, found, NOW)
    assert isinstance(decision, Act)
    assert decision.playbook == playbook
    assert former is None or "f1 0.8 and 0.7" in decision.reasons[0]


def test_drift_asks_the_former_version_also_while_the_version_is_new():
    """Within the bake window too, drift, OOD and low quality roll back only if the former version does better."""
    for cause in (Cause.DRIFT, Cause.OOD, Cause.QUALITY, Cause.REGRESSION):
        one = incident(cause)
        assert decide(one, DEFAULT, facts(one), NOW).playbook == "replay_former"


def test_without_a_former_version_drift_is_retrained():
    """The first version of a model has none to be compared with, so that drift starts a training."""
    one = incident(Cause.DRIFT)
    assert decide(one, DEFAULT, facts(one, return_to=None), NOW).playbook == "retrain"


def test_the_profile_classic_asks_nobody():
    """Under classic, drift rolls back an old version without a replay."""
    policy = HealingPolicy(profile="classic")
    assert decided(Cause.DRIFT, policy, served_for=200 * DAY).playbook == "model_rollback"


@pytest.mark.parametrize("cause", Cause)
def test_classic_rolls_back_for_everything_but_servers(cause):
    """Under the profile classic every trigger rolls back, except those of servers, and a canary is ended."""
    others = {Cause.NOT_CONVERGING: "notify", Cause.SERVERS: "notify", Cause.CANARY_LOAD_FAILURE: "end_canary"}
    policy, found = HealingPolicy.of({"rollback": {"profile": "classic"}}), facts(served_for=200 * DAY)
    assert remedy_for(incident(cause), policy, found).playbook == others.get(cause, "model_rollback")


def test_a_policy_may_name_other_remedies():
    """A policy's remedies go before the table and need no replay; ``none`` only observes."""
    policy = HealingPolicy.of({"healing": {"remedies": {"drift": "none", "faults": "notify"}}})
    found = facts(served_for=200 * DAY)
    named = [remedy_for(incident(cause), policy, found).playbook for cause in (Cause.DRIFT, Cause.FAULTS, Cause.OOD)]
    assert named == [None, "notify", "replay_former"]


@pytest.mark.parametrize("profile", ["default", "classic"])
def test_drift_in_the_warning_band_notifies(profile):
    """A drift of severity low is told, and changes nothing; an escalation does not make it graver."""
    low = SignalState(kind=SignalKind.DRIFT, severity=Severity.LOW, raised_at=NOW)
    one = incident(Cause.DRIFT, kinds=(SignalKind.DRIFT,), states=(low,))
    policy = HealingPolicy(profile=profile)
    assert decide(one, policy, facts(one, policy), NOW).playbook == "notify"
    medium = replace(one, states=(replace(low, severity=Severity.MEDIUM),))
    assert decide(medium, policy, facts(medium, policy), NOW).playbook != "notify"


def test_a_replay_stops_a_training_only_for_a_fault():
    """To look at drift no training is stopped; to look at errors it is; a rollback waits for no replay."""
    training, asking = run("retrain", RunState.RUNNING, id="t"), run("replay_former", RunState.RUNNING, id="r")
    one = incident(Cause.DRIFT)
    assert decide(one, DEFAULT, facts(one, runs=(training,)), NOW).rule is Rule.ACTIVE_RUN
    assert decided(served_for=DAY, runs=(training,)).preempts == "t"
    assert decided(runs=(asking,)).preempts == "r"


def test_a_replay_needs_no_autonomy():
    """Asking the former version changes nothing, so that no level of autonomy forbids it."""
    silent = Autonomy(rollback=Level.OBSERVE, retrain=Level.OBSERVE, notify=Level.OBSERVE)
    assert decided(policy=HealingPolicy(autonomy=silent), served_for=DAY).playbook == "replay_former"


def test_a_reopened_decision_forgets_what_was_tried():
    """What did not help before a new or worse cause came may be tried again, and the former version is asked again."""
    failed = run("model_rollback", RunState.INEFFECTIVE, started=timedelta(hours=2))
    asked = replayed("as_bad", started=timedelta(hours=2))
    one = incident(reopened_at=NOW - timedelta(hours=1))
    assert decide(one, DEFAULT, facts(one, tried=(failed,)), NOW).playbook == "model_rollback"
    assert decided(one=one, tried=(asked,), served_for=DAY).playbook == "replay_former"


def test_rollbacks_and_trainings_have_budgets_of_their_own():
    """Four trainings today leave every rollback of the day; four rollbacks do not."""
    spans = [timedelta(hours=hours) for hours in range(2, 6)]
    assert isinstance(decided(runs=tuple(run("retrain", started=span) for span in spans)), Act)
    assert decided(runs=tuple(run("model_rollback", started=span) for span in spans)).rule is Rule.RUNS_PER_DAY


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
    decision = decide(incident(), policy, facts(policy=policy), NOW)
    assert isinstance(decision, Observe)
    assert (decision.escalate, decision.reasons) == (True, ("the policy's remedy magic is not a playbook",))


spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=30))
states = st.sampled_from(list(RunState))
names = st.sampled_from(sorted(BOOKS))
runs = st.lists(
    st.builds(
        lambda book, state, ago, former: run(
            book, state, started=ago, took=min(ago, timedelta(minutes=3)), facts={"former": former}
        ),
        names,
        states,
        spans,
        st.sampled_from([None, "better", "as_bad", "unknown"]),
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
    found = facts(
        one,
        policy,
        pause=draw(st.sampled_from([None, None, OFF])),
        runs=draw(runs),
        tried=draw(runs),
        return_to=draw(st.sampled_from([None, 1])),
        served_for=draw(st.none() | spans),
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
    acted = [r for r in found.runs if r.started_at is not None and not r.document.harmless]
    alike = [r for r in acted if r.document.autonomy == book.autonomy]
    assert sum(r.started_at > NOW - DAY for r in alike) < policy.max_runs_per_day
    if book.urgent:
        placed = None if one.cause is Cause.CANARY_LOAD_FAILURE else found.placed_by_rollback
        assert placed is None or placed + policy.bake <= NOW
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
