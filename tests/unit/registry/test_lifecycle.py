"""The life of a version: the table, promotion, rollback, canary, governance, gates."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.durable import StepKey
from mendel.errors import (
    Conflict,
    GenerationConflict,
    IllegalTransition,
    InvalidPolicy,
    InvalidValue,
    ModelNotFound,
    NeedsNewImage,
    NothingToReturnTo,
    PromotionRefused,
    VersionNotFound,
)
from mendel.registry import TRANSITIONS, GateRecord, Override, in_production_at, mirror_alias, require_transition
from mendel.values import ColumnSpec, ColumnType, Digest, ModelName, Route, Signature, Stage

STEP = StepKey(workflow_id="w", step="promote")
CODE = Digest("sha256:" + "b" * 64)
OTHER_CODE = Digest("sha256:" + "c" * 64)
TABLE = """
development sandbox
development deprecated
sandbox     canary
sandbox     production
sandbox     deprecated
canary      production
canary      sandbox
canary      deprecated
production  sandbox
production  rollback
production  deprecated
rollback    sandbox
rollback    deprecated
"""


def gate(house, *, passed, digest="d"):
    verdict = "pass" if passed else "fail"
    return GateRecord(report_digest=digest, passed=passed, verdict=verdict, at=house.clock(), body={})


class TestTable:
    ROWS = frozenset(tuple(Stage(word) for word in line.split()) for line in TABLE.strip().splitlines())

    @pytest.mark.parametrize("after", list(Stage))
    @pytest.mark.parametrize("before", list(Stage))
    def test_only_rows_of_the_table_pass(self, before, after):
        """A move passes if and only if it is a row; a refusal names the possible ones."""
        if (before, after) in self.ROWS:
            require_transition(before, after)
            return
        with pytest.raises(IllegalTransition) as refused:
            require_transition(before, after)
        for possible in TRANSITIONS[before]:
            assert possible in refused.value.remedy


class TestPromotion:
    def test_the_former_version_steps_back(self, house, registry):
        """Promoting moves the former to sandbox, keeps it loaded, and grows the generation, in one step."""
        first, second = (house.register() for _ in range(2))
        registry.lifecycle.promote(first.ref, by="ann", reason="first")
        deployment = registry.lifecycle.promote(second.ref, by="bob", reason="better")
        assert deployment == registry.lifecycle.deployment(house.model)
        assert deployment.generation == 2
        assert deployment.routes == (Route(version=2, share=1.0),)
        assert deployment.keep == (1,)
        assert [r.stage for r in registry.versions.of(house.model)] == [Stage.SANDBOX, Stage.PRODUCTION]
        changed = [(e.subject, e.data["to_stage"]) for e in house.events("model.stage_changed")][-2:]
        assert changed == [("credit@1", "sandbox"), ("credit@2", "production")]
        promoted = house.events("model.promoted")[-1]
        assert (promoted.data["from_version"], promoted.data["to_version"], promoted.actor) == (1, 2, "bob")

    def test_who_looked_before_loses(self, house, registry):
        """A promotion under a generation that has passed changes nothing."""
        first, second = (house.register() for _ in range(2))
        registry.lifecycle.promote(first.ref, by="ann", expected_generation=0)
        with pytest.raises(GenerationConflict) as refused:
            registry.lifecycle.promote(second.ref, by="bob", expected_generation=0)
        assert (refused.value.expected, refused.value.actual) == (0, 1)
        assert registry.lifecycle.deployment(house.model).production == 1
        assert len(house.events("model.promoted")) == 1

    def test_of_two_concurrent_promotions_one_wins(self, house, registry):
        """Two threads that promote at once: one version is in production, the other caller gets GenerationConflict."""
        records = [house.register() for _ in range(2)]
        barrier = threading.Barrier(2)
        inner = house.unit

        class Together:
            """Lets both callers read the generation before either writes."""

            def __getattr__(self, name):
                return getattr(inner, name)

            def write(self, work):
                barrier.wait()
                return inner.write(work)

        registry = house.over(unit=Together())

        def promote(record):
            try:
                return registry.lifecycle.promote(record.ref, by="ann").production
            except GenerationConflict as conflict:
                return conflict

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(promote, records))
        registry._unit = inner
        assert sum(isinstance(outcome, GenerationConflict) for outcome in outcomes) == 1
        assert [r.stage for r in registry.versions.of(house.model)].count(Stage.PRODUCTION) == 1

    def test_development_does_not_lead_to_production(self, house, registry):
        """A version in development is promoted by way of sandbox only."""
        record = house.register(sandbox=False)
        with pytest.raises(IllegalTransition):
            registry.lifecycle.promote(record.ref, by="ann")

    def test_a_version_in_production_is_not_promoted_again(self, house, registry):
        """Promoting the production version is no row of the table."""
        (record,) = house.promoted()
        with pytest.raises(IllegalTransition):
            registry.lifecycle.promote(record.ref, by="ann")
        assert registry.lifecycle.deployment(house.model).generation == 1

    def test_an_unknown_version_is_not_promoted(self, house, registry):
        """Promoting what does not exist is VersionNotFound."""
        with pytest.raises(VersionNotFound):
            registry.lifecycle.promote(house.ref(1), by="ann")

    def test_a_repeated_step_changes_nothing_twice(self, house, registry):
        """A workflow step that is run again gives the same deployment and makes no second one."""
        record = house.register()
        first = registry.lifecycle.promote(record.ref, by="healing", step=STEP)
        revision = registry.lifecycle.revision()
        assert registry.lifecycle.promote(record.ref, by="healing", step=STEP) == first
        assert registry.lifecycle.revision() == revision
        assert len(house.events("model.promoted")) == 1


class TestGovernance:
    def test_both_flags_are_needed_by_default(self, house, registry):
        """Without approvals every missing one is named."""
        record = house.register(approved=False)
        with pytest.raises(PromotionRefused) as refused:
            registry.lifecycle.promote(record.ref, by="ann")
        assert len(refused.value.reasons) == 2
        assert "mendel approve credit@1 --policy --bias" in str(refused.value)

    def test_flags_add_up(self, house, registry):
        """A flag given later leaves the other as it was, with who and when."""
        record = house.register(approved=False)
        registry.lifecycle.approve(record.ref, policy=True, by="ann")
        house.clock.forward(minutes=1)
        approved = registry.lifecycle.approve(record.ref, bias=True, by="bob").governance
        assert (approved.policy_compliant.by, approved.bias_check_passed.by) == ("ann", "bob")
        assert registry.lifecycle.promote(record.ref, by="ann").production == 1

    def test_the_policy_says_which_flags(self, house, registry):
        """A policy that requires nothing lets a version pass without approvals."""
        registry.policies.set(house.model, {"governance": {"require": []}})
        assert registry.lifecycle.promote(house.register(approved=False).ref, by="ann").production == 1

    def test_flags_are_inherited_by_policy(self, house, registry):
        """A child with equal code and signature inherits its parent's flags, recorded under the policy's hash."""
        policy = registry.policies.set(house.model, {"governance": {"inherit": True}})
        parent = house.register(code_digest=CODE)
        child = house.register(approved=False, parent=parent.ref, code_digest=CODE)
        registry.lifecycle.promote(child.ref, by="ann")
        governance = registry.versions.get(child.ref).governance
        assert governance.policy_compliant.by == governance.bias_check_passed.by == f"policy {policy.hash}"

    @pytest.mark.parametrize(
        "change", [{"code_digest": OTHER_CODE}, {"signature": None}, {"parent": None}, {"code_digest": None}]
    )
    def test_nothing_is_inherited_where_something_differs(self, house, registry, change):
        """Other or unknown code, another or no signature, or no parent: no inheritance."""
        registry.policies.set(house.model, {"governance": {"inherit": True}})
        same = {"code_digest": None} if change == {"code_digest": None} else {"code_digest": CODE}
        parent = house.register(**same)
        child = house.register(approved=False, **{"parent": parent.ref, **same, **change})
        with pytest.raises(PromotionRefused):
            registry.lifecycle.promote(child.ref, by="ann")

    def test_a_key_states_no_inheritance(self, house, registry):
        """A version that a key registered inherits nothing, because the key only states its parent and its code."""
        registry.policies.set(house.model, {"governance": {"inherit": True}})
        parent = house.register()
        child = registry.versions.register(house.request(parent=parent.ref), house.tree(), by="key:ab")
        registry.lifecycle.transition(child.ref, Stage.SANDBOX, by="ann", without_parity="no rows")
        with pytest.raises(PromotionRefused, match="not approved"):
            registry.lifecycle.promote(child.ref, by="ann")

    def test_a_parent_of_another_model_bequeaths_nothing(self, house, registry):
        """A version of the same number in another model is not mistaken for one's own parent."""
        registry.policies.set(house.model, {"governance": {"inherit": True}})
        house.register()
        stranger = house.register(model=ModelName("other"))
        child = house.register(approved=False, parent=stranger.ref)
        with pytest.raises(PromotionRefused):
            registry.lifecycle.promote(child.ref, by="ann")


class TestGates:
    @pytest.fixture(autouse=True)
    def gated(self, house, registry):
        registry.policies.set(house.model, {"gates": {}})

    def test_a_passing_report_is_needed(self, house, registry):
        """Without a report, or with a failing one, a gated model is not promoted; with a passing one it is."""
        record = house.register()
        with pytest.raises(PromotionRefused, match="no gate report"):
            registry.lifecycle.promote(record.ref, by="ann")
        registry.lifecycle.record_gate_report(record.ref, gate(house, passed=False))
        with pytest.raises(PromotionRefused, match="is fail"):
            registry.lifecycle.promote(record.ref, by="ann")
        registry.lifecycle.record_gate_report(record.ref, gate(house, passed=True, digest="d2"))
        registry.lifecycle.promote(record.ref, by="ann")
        assert house.events("model.promoted")[0].data["gate_report"] == "d2"

    def test_a_report_of_a_first_deployment_opens_no_second(self, house, registry):
        """Two versions are judged while none is in production; the second was compared with nothing and stays out."""
        first, second = (house.register() for _ in range(2))
        alone = replace(gate(house, passed=True), body={"first_deployment": True})
        for record in (first, second):
            registry.lifecycle.record_gate_report(record.ref, alone)
        registry.lifecycle.promote(first.ref, by="ann")
        with pytest.raises(PromotionRefused, match="is for a first deployment"):
            registry.lifecycle.promote(second.ref, by="ann")

    def test_the_newest_report_counts(self, house, registry):
        """A version that passed once and failed later does not pass."""
        record = house.register()
        for passed in (True, False):
            registry.lifecycle.record_gate_report(record.ref, gate(house, passed=passed))
        with pytest.raises(PromotionRefused):
            registry.lifecycle.promote(record.ref, by="ann")

    def test_a_report_counts_for_its_version_only(self, house, registry):
        """Another version's pass helps nobody."""
        first, second = (house.register() for _ in range(2))
        registry.lifecycle.record_gate_report(first.ref, gate(house, passed=True))
        with pytest.raises(PromotionRefused):
            registry.lifecycle.promote(second.ref, by="ann")

    def test_an_override_is_recorded(self, house, registry):
        """A named override stands in for the report, and stands in the event."""
        record = house.register()
        registry.lifecycle.promote(record.ref, by="ann", override=Override(reason="the demo", by="ann"))
        assert house.events("model.promoted")[0].data["override"] == {"reason": "the demo", "by": "ann"}

    def test_an_override_replaces_no_governance(self, house, registry):
        """Flags are needed even with an override."""
        record = house.register(approved=False)
        with pytest.raises(PromotionRefused):
            registry.lifecycle.promote(record.ref, by="ann", override=Override(reason="r", by="ann"))

    def test_an_override_has_a_reason_and_a_name(self):
        """Nobody overrides anonymously or without saying why."""
        for reason, by in (("", "ann"), ("r", " ")):
            with pytest.raises(InvalidValue):
                Override(reason=reason, by=by)

    def test_a_repeated_step_records_once(self, house, registry):
        """A gate report recorded by a repeated step stands once."""
        record = house.register()
        report = gate(house, passed=True)
        for _ in range(2):
            assert registry.lifecycle.record_gate_report(record.ref, report, step=STEP) == report
        assert registry.lifecycle.gate_records(record.ref) == (report,)
        assert len(house.events("gate.decided")) == 1


class TestFit:
    NARROW = Signature.of_columns((ColumnSpec(name="age", type=ColumnType.DOUBLE),))

    def test_an_incompatible_signature_is_refused(self, house, registry):
        """A version that does not take what the serving one takes is not promoted."""
        house.promoted()
        with pytest.raises(PromotionRefused, match="signature"):
            registry.lifecycle.promote(house.register(signature=self.NARROW).ref, by="ann")

    def test_a_missing_signature_is_refused_where_one_serves(self, house, registry):
        """A version without signature cannot replace one that has one; the other way it may."""
        house.promoted(signature=None)
        registry.lifecycle.promote(house.register().ref, by="ann")
        with pytest.raises(PromotionRefused, match="no signature"):
            registry.lifecycle.promote(house.register(signature=None).ref, by="ann")

    @pytest.mark.parametrize("change", [{"code_digest": OTHER_CODE}, {"lock_digest": OTHER_CODE}])
    def test_other_code_needs_a_new_image(self, house, registry, change):
        """It is refused while another is in production, naming the release to build; and promoted when none is."""
        house.promoted()
        record = house.register(release_tag="credit-v2.0.0-mlserver-762e7f2", **change)
        with pytest.raises(NeedsNewImage) as refused:
            registry.lifecycle.promote(record.ref, by="ann")
        assert refused.value.release == "credit-v2.0.0-mlserver-762e7f2"
        registry.lifecycle.undeploy(house.model, by="ann", reason="other code")
        assert registry.lifecycle.promote(record.ref, by="ann").production == record.ref.number

    def test_a_version_with_its_own_code_needs_no_new_image(self, house, registry):
        """With the lock of the production version it is promoted, and rolled back from, also to a version without."""
        house.promoted()
        record = house.register(code_digest=OTHER_CODE, carries="{project: true}")
        assert registry.lifecycle.promote(record.ref, by="ann").production == record.number
        assert registry.lifecycle.roll_back(house.model, by="ann", reason="slow").to_version == house.ref(1)

    @pytest.mark.parametrize(("builds", "locked"), [(True, False), (False, True), (True, True)])
    def test_another_lock_needs_an_environment_that_may_be_made(self, house, builds, locked):
        """The version must have been trained in the environment of its lock, and servers must make environments."""
        lifecycle = house.over(builds=builds).lifecycle
        house.promoted()
        carries = f"{{project: true, locked: {str(locked).lower()}}}"
        record = house.register(lock_digest=OTHER_CODE, carries=carries)
        assert (record.carries_code, record.locked) == (True, locked)
        if builds and locked:
            assert lifecycle.promote(record.ref, by="ann").production == record.number
            return
        with pytest.raises(NeedsNewImage):
            lifecycle.promote(record.ref, by="ann")

    def test_every_reason_is_told_at_once(self, house, registry):
        """Governance, gates and signature are all named in one refusal."""
        house.promoted()
        registry.policies.set(house.model, {"gates": {}})
        with pytest.raises(PromotionRefused) as refused:
            registry.lifecycle.promote(house.register(approved=False, signature=self.NARROW).ref, by="ann")
        assert len(refused.value.reasons) == 4


class TestRollback:
    def test_the_former_version_comes_back(self, house, registry):
        """The serving version goes to rollback, the former one serves, the generation grows, events say so."""
        house.promoted(2)
        done = registry.lifecycle.roll_back(house.model, by="healing", reason="errors")
        assert (done.from_version, done.to_version) == (house.ref(2), house.ref(1))
        assert done.deployment == registry.lifecycle.deployment(house.model)
        assert (done.deployment.generation, done.deployment.production, done.deployment.keep) == (3, 1, ())
        assert [r.stage for r in registry.versions.of(house.model)] == [Stage.PRODUCTION, Stage.ROLLBACK]
        (event,) = house.events("model.rollback")
        assert {k: event.data[k] for k in ("from_version", "to_version", "reason")} == {
            "from_version": 2,
            "to_version": 1,
            "reason": "errors",
        }

    def test_it_skips_what_was_rolled_back(self, house, registry):
        """Rolling back twice goes two versions back, never to one that was rolled back or deprecated."""
        house.promoted(4)
        registry.lifecycle.transition(house.ref(2), Stage.DEPRECATED, by="ann")
        registry.lifecycle.roll_back(house.model, by="healing", reason="r")
        assert registry.lifecycle.roll_back(house.model, by="healing", reason="r").to_version == house.ref(1)
        with pytest.raises(NothingToReturnTo, match="No production version before 1"):
            registry.lifecycle.roll_back(house.model, by="healing", reason="r")
        assert registry.lifecycle.deployment(house.model).production == 1

    def test_nothing_to_return_to(self, house, registry):
        """A model without a former version, or without any, refuses and changes nothing."""
        house.register()
        with pytest.raises(NothingToReturnTo):
            registry.lifecycle.roll_back(house.model, by="healing", reason="r")
        house.promoted()
        with pytest.raises(NothingToReturnTo):
            registry.lifecycle.roll_back(house.model, by="healing", reason="r")
        assert registry.lifecycle.deployment(house.model).generation == 1

    def test_an_unknown_model_is_not_a_quiet_one(self, house, registry):
        """A model nobody registered is ModelNotFound wherever it is asked for, not an empty answer."""
        for ask in (
            registry.versions.of,
            registry.versions.lineage,
            registry.lifecycle.deployment,
            registry.lifecycle.history,
            registry.performance.health,
            registry.performance.check_rollback_triggers,
            registry.lifecycle.plan_roll_back,
            lambda model: registry.lifecycle.roll_back(model, by="ann", reason="r"),
        ):
            with pytest.raises(ModelNotFound):
                ask(house.model)
        house.register()
        assert registry.lifecycle.deployment(house.model).generation == 0
        assert registry.lifecycle.history(house.model) == ()

    def test_it_is_exempt_from_gates_and_governance(self, house, registry):
        """A rollback asks neither for flags nor for a gate report."""
        house.promoted(2)
        registry.policies.set(house.model, {"gates": {}, "governance": {"require": ["policy", "bias"]}})
        assert registry.lifecycle.roll_back(house.model, by="healing", reason="r").to_version == house.ref(1)

    def test_it_is_not_exempt_from_the_signature(self, house, registry):
        """A former version that refuses nulls, which today's requests may hold, does not come back."""
        columns = [ColumnSpec(name="age", type=ColumnType.DOUBLE, required=required) for required in (True, False)]
        for column in columns:
            house.promoted(signature=Signature.of_columns((column,)))
        with pytest.raises(PromotionRefused, match="signature"):
            registry.lifecycle.roll_back(house.model, by="healing", reason="r")
        assert registry.lifecycle.deployment(house.model).production == 2

    def test_to_a_version(self, house, registry):
        """A named former version comes back; one that never was in production, or serves, does not."""
        house.promoted(3)
        never = house.register()
        for number in (never.number, 3, 99):
            with pytest.raises(NothingToReturnTo, match="Former production versions: 2, 1"):
                registry.lifecycle.roll_back(house.model, by="ann", reason="r", to=number)
        assert registry.lifecycle.roll_back(house.model, by="ann", reason="r", to=1).to_version == house.ref(1)

    def test_a_rolled_back_version_returns_by_sandbox_only(self, house, registry):
        """What was rolled back is named in vain until it was moved to sandbox."""
        house.promoted(3)
        registry.lifecycle.roll_back(house.model, by="healing", reason="r")
        with pytest.raises(IllegalTransition):
            registry.lifecycle.roll_back(house.model, by="ann", reason="r", to=3)
        registry.lifecycle.transition(house.ref(3), Stage.SANDBOX, by="ann")
        assert registry.lifecycle.roll_back(house.model, by="ann", reason="r", to=3).to_version == house.ref(3)

    def test_a_dry_run_changes_nothing(self, house, registry):
        """Planning tells what would happen, and it has not."""
        house.promoted(2)
        planned = registry.lifecycle.plan_roll_back(house.model)
        assert registry.lifecycle.deployment(house.model).generation == 2
        assert registry.lifecycle.roll_back(house.model, by="ann", reason="r") == planned

    def test_a_repeated_step_rolls_back_once(self, house, registry):
        """A repeated step does not roll back two versions."""
        house.promoted(3)
        first = registry.lifecycle.roll_back(house.model, by="healing", reason="r", step=STEP)
        assert registry.lifecycle.roll_back(house.model, by="healing", reason="r", step=STEP) == first
        assert registry.lifecycle.deployment(house.model).production == 2


class TestHistory:
    def test_it_knows_every_moment(self, house, registry):
        """For each moment the history names the version in production, who decided, and the event."""
        house.promoted(2)
        house.clock.forward(minutes=5)
        registry.lifecycle.roll_back(house.model, by="healing", reason="errors")
        tenures = registry.lifecycle.history(house.model)
        assert [t.version for t in tenures] == [1, 2, 1]
        assert [t.actor for t in tenures] == ["ann", "ann", "healing"]
        assert [t.end for t in tenures] == [tenures[1].start, tenures[2].start, None]
        assert tenures[2].start_event == tenures[1].end_event == house.events("model.rollback")[0].id
        assert in_production_at(tenures, tenures[1].start) == 2
        assert in_production_at(tenures, tenures[0].start - timedelta(microseconds=1)) is None
        assert in_production_at(tenures, house.clock.forward(days=9)) == 1


class TestMoves:
    def test_production_is_left_by_its_own_verbs(self, house, registry):
        """A plain move neither enters production, canary or rollback, nor leaves production without undeploying."""
        house.promoted()
        other = house.register()
        for ref, to in (
            (other.ref, Stage.PRODUCTION),
            (other.ref, Stage.CANARY),
            (house.ref(1), Stage.ROLLBACK),
            (house.ref(1), Stage.SANDBOX),
            (house.ref(1), Stage.DEPRECATED),
        ):
            with pytest.raises(Conflict):
                registry.lifecycle.transition(ref, to, by="ann")
        assert registry.lifecycle.deployment(house.model).generation == 1

    def test_undeploying_empties_the_deployment(self, house, registry):
        """The production version goes to sandbox together with its deployment, and its tenure ends."""
        house.promoted(2)
        deployment = registry.lifecycle.undeploy(house.model, by="ann", reason="not needed", expected_generation=2)
        assert registry.versions.get(house.ref(2)).stage is Stage.SANDBOX
        assert (deployment.routes, deployment.keep, deployment.generation) == ((), (), 3)
        assert registry.lifecycle.history(house.model)[-1].end == house.clock()
        (served,) = registry.lifecycle.desired_state().models
        assert served.versions == ()
        assert registry.lifecycle.promote(house.ref(2), by="ann").production == 2

    def test_undeploying_can_be_for_good(self, house, registry):
        """A version that nobody shall serve again is deprecated as it leaves, in the same change."""
        house.promoted()
        registry.lifecycle.undeploy(house.model, by="ann", deprecate=True)
        assert registry.versions.get(house.ref(1)).stage is Stage.DEPRECATED

    def test_undeploying_needs_the_deployment_that_was_seen(self, house, registry):
        """Another generation than the expected one, and a model that serves nothing, are refused; nothing changes."""
        house.promoted(2)
        with pytest.raises(GenerationConflict):
            registry.lifecycle.undeploy(house.model, by="ann", expected_generation=1)
        registry.lifecycle.undeploy(house.model, by="ann")
        with pytest.raises(Conflict, match="has no version in production"):
            registry.lifecycle.undeploy(house.model, by="ann")
        assert registry.lifecycle.deployment(house.model).generation == 3

    def test_the_refused_move_names_the_command(self, house, registry):
        """Who moves a production version by its stage learns which command takes it out."""
        house.promoted()
        for to, command in ((Stage.SANDBOX, "mendel undeploy"), (Stage.DEPRECATED, "--deprecate")):
            with pytest.raises(Conflict, match=command):
                registry.lifecycle.transition(house.ref(1), to, by="ann")

    def test_a_deprecated_version_is_not_kept_loaded(self, house, registry):
        """Deprecating the former version takes it from the servers."""
        house.promoted(2)
        registry.lifecycle.transition(house.ref(1), Stage.DEPRECATED, by="ann")
        assert registry.lifecycle.deployment(house.model).keep == ()

    def test_a_move_that_servers_do_not_see_makes_no_generation(self, house, registry):
        """Moving a version nobody serves leaves the deployment alone."""
        house.promoted()
        revision = registry.lifecycle.revision()
        registry.lifecycle.transition(
            house.register(sandbox=False).ref, Stage.SANDBOX, by="ann", without_parity="no rows"
        )
        assert registry.lifecycle.revision() == revision


class TestCanary:
    def test_it_takes_its_share_and_is_promoted(self, house, registry):
        """A canary is the second route; promoted, it takes all and production steps back."""
        house.promoted()
        registry.side_routes.canary(house.model, house.register().number, 0.1, by="ann")
        deployment = registry.side_routes.canary(house.model, 2, 0.25, by="ann")
        assert deployment.routes == (Route(version=1, share=0.75), Route(version=2, share=0.25))
        assert registry.versions.get(house.ref(2)).stage is Stage.CANARY
        assert registry.lifecycle.promote(house.ref(2), by="ann").routes == (Route(version=2, share=1.0),)
        assert [r.stage for r in registry.versions.of(house.model)] == [Stage.SANDBOX, Stage.PRODUCTION]

    def test_a_failing_canary_leaves_production_alone(self, house, registry):
        """A demoted canary loses its route and its stage; production's tenure goes on."""
        house.promoted()
        registry.side_routes.canary(house.model, house.register().number, 0.1, by="ann")
        registry.lifecycle.transition(house.ref(2), Stage.SANDBOX, by="healing", reason="slow")
        assert registry.lifecycle.deployment(house.model).routes == (Route(version=1, share=1.0),)
        assert len(registry.lifecycle.history(house.model)) == 1

    def test_it_needs_what_a_promotion_needs(self, house, registry):
        """Without flags, production, a fitting share or a free place there is no canary."""
        first = house.register()
        with pytest.raises(Conflict):
            registry.side_routes.canary(house.model, first.number, 0.1, by="ann")
        registry.lifecycle.promote(first.ref, by="ann")
        with pytest.raises(PromotionRefused):
            registry.side_routes.canary(house.model, house.register(approved=False).number, 0.1, by="ann")
        for share in (0.0, 1.0):
            with pytest.raises(InvalidValue):
                registry.side_routes.canary(house.model, house.register().number, share, by="ann")
        registry.side_routes.canary(house.model, house.register().number, 0.1, by="ann")
        with pytest.raises(Conflict):
            registry.side_routes.canary(house.model, house.register().number, 0.1, by="ann")

    @pytest.mark.parametrize("change", ["promote", "rollback", "undeploy"])
    def test_it_ends_when_production_changes(self, house, registry, change):
        """Whatever replaces production demotes the canary."""
        house.promoted(2)
        canary = house.register()
        registry.side_routes.canary(house.model, canary.number, 0.1, by="ann")
        if change == "promote":
            registry.lifecycle.promote(house.register().ref, by="ann")
        elif change == "rollback":
            registry.lifecycle.roll_back(house.model, by="healing", reason="r")
        else:
            registry.lifecycle.undeploy(house.model, by="ann")
        assert registry.versions.get(canary.ref).stage is Stage.SANDBOX
        assert len(registry.lifecycle.deployment(house.model).routes) <= 1


class TestBake:
    def test_the_former_version_stays_loaded_through_the_bake(self, house, registry):
        """A kept version is released when the policy's bake is over, to the second, with a new generation."""
        registry.policies.set(house.model, {"healing": {"bake": "30s", "cooldown": "1s"}})
        house.promoted(2)
        before = registry.lifecycle.revision()
        assert registry.lifecycle.release_kept(house.model, house.clock.forward(seconds=29)).keep == (1,)
        assert registry.lifecycle.revision() == before
        released = registry.lifecycle.release_kept(house.model, house.clock.forward(seconds=1))
        assert (released.keep, released.generation) == ((), 3)
        assert registry.lifecycle.release_kept(house.model, house.clock()).generation == 3

    def test_a_day_by_default(self, house, registry):
        """Without a policy the bake is 24 hours."""
        house.promoted(2)
        assert registry.lifecycle.release_kept(house.model, house.clock.forward(hours=23, minutes=59)).keep == (1,)
        assert registry.lifecycle.release_kept(house.model, house.clock.forward(minutes=1)).keep == ()


class TestMirror:
    def test_every_stage_change_asks_for_a_mirror(self, house, registry):
        """A change of stage puts the mirror workflow into the outbox, which makes alias and tags agree."""
        house.promoted(2)
        calls = [call for call in house.calls() if call.name == "mirror_alias"]
        assert {call.input["model"] for call in calls} == {"credit"}
        assert len({call.id for call in calls}) == len(calls)

        class Run:
            def step(self, name, act):
                return act()

        assert mirror_alias(registry.artifact_mirror)(Run(), calls[0].input) == {"production": 2, "generation": 2}
        seen = registry.artifact_mirror.mirror(house.model)
        assert (seen.production, seen.stages) == (2, {1: Stage.SANDBOX, 2: Stage.PRODUCTION})

    def test_it_follows_what_changes_meanwhile(self, house, registry):
        """A promotion during the mirroring is mirrored too."""
        house.promoted(2)
        inner = house.artifacts

        class Late:
            def __init__(self):
                self.seen = []

            def __getattr__(self, name):
                return getattr(inner, name)

            def mirror(self, model, state):
                if not self.seen:
                    registry.lifecycle.roll_back(house.model, by="healing", reason="r")
                self.seen.append(state.production)
                return inner.mirror(model, state)

        late = Late()
        assert house.over(artifacts=late).artifact_mirror.mirror(house.model).production == 1
        assert late.seen == [2, 1]


class TestPolicies:
    def test_policies_are_versioned_by_content(self, house, registry):
        """Each different body is a new version with its own hash; the same body again is not."""
        assert (registry.policies.of(house.model).version, registry.policies.of(house.model).body) == (0, {})
        first = registry.policies.set(house.model, {"rollback": {"error_rate": 0.1}}, by="ann")
        assert registry.policies.set(house.model, {"rollback": {"error_rate": 0.1}}) == first
        second = registry.policies.set(house.model, {"rollback": {"error_rate": 0.2}})
        assert (first.version, second.version) == (1, 2)
        assert first.hash != second.hash
        assert registry.policies.of(house.model) == second
        assert [p.version for p in registry.policies.history(house.model)] == [1, 2]
        assert len(house.events("policy.set")) == 2

    @pytest.mark.parametrize(
        "body",
        [
            {"rolback": {}},
            {"rollback": {"error_rat": 0.1}},
            {"rollback": {"error_rate": 5}},
            {"rollback": {"window": "ten minutes"}},
            {"rollback": {"min_requests": 0}},
            {"rollback": []},
            {"governance": {"require": ["luck"]}},
            {"healing": {"bake": "long"}},
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, house, registry, body):
        """An unknown key or a value that does not fit is an InvalidPolicy, and nothing is kept."""
        with pytest.raises(InvalidPolicy):
            registry.policies.set(house.model, body)
        assert registry.policies.history(house.model) == ()


def test_the_desired_state_names_what_servers_need(house, registry):
    """Every served and kept version is described; the revision grows with every change and only then."""
    assert registry.lifecycle.desired_state().revision == registry.lifecycle.revision() == 0
    house.promoted(2)
    state = registry.lifecycle.desired_state()
    assert state.revision == registry.lifecycle.revision() == 2
    (model,) = state.models
    assert [v.number for v in model.versions] == [2, 1]
    assert model.version(2).artifact_digest == registry.versions.get(house.ref(2)).artifact_digest
    house.register()
    assert registry.lifecycle.revision() == 2
