"""The life of a version through the public client, in process and over a socket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from mendel.errors import (
    Conflict,
    GenerationConflict,
    IllegalTransition,
    InvalidInput,
    InvalidPolicy,
    InvalidValue,
    MendelError,
    NeedsNewImage,
    NothingToReturnTo,
    PromotionRefused,
    VersionNotFound,
)
from mendel.registry import Improvement
from mendel.values import Deployment, Digest, Route, Stage, VersionRef
from support.principals import ME

ONE, TWO = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)


class TestRegistering:
    def test_a_version_is_what_was_registered(self, hub, client, model):
        """What register answers is what every way of asking for the version gives."""
        told = hub.register(model, metadata={"features": ["age"]}, tags={"a": "b"}, metrics={"f1": 0.9}, owner="ann")
        assert (told.model_id, told.version, told.model_uri) == (f"{model}/1", 1, f"models:/{told.model_uuid}")
        record = client.version(f"{model}@1")
        assert record == client.get_model_by_uuid(told.model_uuid) == client.versions(model)[0]
        assert (record.metrics, record.tags, record.owner) == ({"f1": 0.9}, {"a": "b"}, "ann")
        assert (record.registered_by, record.stage) == (ME, Stage.DEVELOPMENT)
        assert record.signature.names == ("x0", "x1")
        assert model in client.models()

    def test_the_reference_of_the_training_data_is_kept(self, hub, client, model):
        """An artefact that was written with its training data has a reference with a digest."""
        hub.register(model, tree="referenced")
        assert client.version(f"{model}@1").reference_digest is not None

    def test_data_beside_the_artefact_are_kept(self, hub, client, model, tmp_path):
        """A data directory is kept with its digest, and is no part of what is served."""
        (tmp_path / "training.parquet").write_bytes(b"rows")
        hub.register(model)
        from mendel.registry import Registration  # noqa: PLC0415 - one use

        wish = Registration(model=model, flavor="sklearn", task="classification")
        client.register(wish, hub.trees / "linear", data=tmp_path)
        bare, kept = client.versions(model)
        assert (bare.data_digest, kept.artifact_digest) == (None, bare.artifact_digest)
        assert kept.data_digest is not None

    def test_one_idempotency_key_makes_one_version(self, hub, client, model):
        """The same call again gives the same version; other content under the key is refused."""
        first = hub.register(model, idempotency_key="k")
        assert hub.register(model, idempotency_key="k") == first
        with pytest.raises(Conflict):
            hub.register(model, idempotency_key="k", tree="wider")
        assert len(client.versions(model)) == 1

    def test_concurrent_calls_with_one_key_make_one_version(self, hub, client, model):
        """Of four callers at once all are told the same version."""
        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(lambda _: hub.register(model, idempotency_key="k").model_uuid, range(4)))
        assert len(set(told)) == 1
        assert len(client.versions(model)) == 1

    def test_lineage_tells_who_improved_what(self, hub, client, model):
        """Improvements come back with contributor and claimed deltas."""
        address = "0x" + "a" * 40
        hub.register(model)
        gain = Improvement(baseline=VersionRef(model, 1), contributor=address, delta_metrics={"f1": 0.03})
        told = hub.register(model, improvement=gain)
        assert (told.baseline_id, told.contributor, told.delta_metrics) == (f"{model}/1", address, {"f1": 0.03})
        assert [entry.ref.number for entry in client.lineage(model)] == [1, 2]


class TestPromoting:
    def test_a_promotion_is_a_generation(self, hub, client, model):
        """Promoting puts one version on all of the traffic, keeps the former one, and says why in the history."""
        hub.promoted(model, 2)
        assert client.deployment(model) == Deployment(
            model=model, generation=2, routes=(Route(version=2, share=1.0),), keep=(1,)
        )
        first, second = client.history(model)
        assert (first.version, first.reason, first.actor, first.end) == (1, f"{model}@1 is next", ME, second.start)
        assert second.end is None
        assert [v.stage for v in client.versions(model)] == [Stage.SANDBOX, Stage.PRODUCTION]

    def test_every_reason_against_a_promotion_is_told(self, hub, client, model):
        """PromotionRefused comes with each reason and what to do."""
        hub.register(model)
        client.change_stage(f"{model}@1", "sandbox")
        client.set_policy(model, {"gates": {}})
        with pytest.raises(PromotionRefused) as caught:
            client.promote(f"{model}@1")
        assert caught.value.reasons == (
            f"Policy compliance of {model}@1 is not approved.",
            f"The bias check of {model}@1 is not approved.",
            f"The version {model}@1 has no gate report.",
        )
        assert f"mendel approve {model}@1" in caught.value.remedy
        assert client.deployment(model).generation == 0

    def test_an_override_opens_the_gate(self, hub, client, model):
        """Without a gate report of the hub, only a named override lets a gated version through."""
        client.set_policy(model, {"gates": {}})
        ref = hub.ready(model)
        with pytest.raises(PromotionRefused, match="has no gate report"):
            client.promote(ref)
        client.promote(ref, override="the demo needs it")
        (promoted,) = hub.events(model, "model.promoted")
        assert promoted.data["override"] == {"by": ME, "reason": "the demo needs it"}

    def test_the_generation_that_was_seen_counts(self, hub, client, model):
        """If-Match of another generation changes nothing and tells both numbers."""
        one, two = hub.promoted(model)[0], hub.ready(model)
        with pytest.raises(GenerationConflict) as caught:
            client.promote(two, generation=0)
        assert (caught.value.expected, caught.value.actual) == (0, 1)
        assert client.deployment(model).production == one.number
        assert client.promote(two, generation=1).generation == 2

    def test_of_concurrent_promotions_one_wins(self, hub, client, model):
        """Eight promotions from one generation: one wins, the others are told, and one version is in production."""
        refs = [hub.ready(model) for _ in range(8)]

        def promote(ref):
            try:
                return client.promote(ref, generation=0)
            except GenerationConflict as error:
                return error

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(promote, refs))
        won = [one for one in outcomes if isinstance(one, Deployment)]
        assert [one.generation for one in won] == [1]
        assert [v.number for v in client.versions(model) if v.stage is Stage.PRODUCTION] == [won[0].production]
        assert len(hub.events(model, "model.promoted")) == 1

    def test_another_signature_is_refused(self, hub, client, model):
        """A version that does not take what the serving one takes may not follow it."""
        hub.promoted(model)
        wider = hub.ready(model, tree="wider")
        with pytest.raises(PromotionRefused, match="does not accept every request"):
            client.promote(wider)

    def test_other_code_needs_a_new_image(self, hub, client, model):
        """NeedsNewImage names the release that must be built."""
        release = f"{model}-v1.1.0-mlserver-0123abc"
        hub.promoted(model, code_digest=ONE)
        other = hub.ready(model, code_digest=TWO, release_tag=release)
        with pytest.raises(NeedsNewImage) as caught:
            client.promote(other)
        assert caught.value.release == release

    def test_only_moves_of_the_table_are_made(self, hub, client, model):
        """A move outside of the table says which there are; verbs with a meaning of their own are not plain moves."""
        hub.register(model)
        with pytest.raises(IllegalTransition, match="Possible next stages: sandbox, deprecated"):
            client.change_stage(f"{model}@1", "production")
        client.change_stage(f"{model}@1", "sandbox", reason="looks good")
        with pytest.raises(Conflict, match="promote"):
            client.change_stage(f"{model}@1", "production")
        assert client.version(f"{model}@1").stage is Stage.SANDBOX

    def test_a_canary_shares_the_traffic(self, hub, client, model):
        """A canary gets its share beside production, and leaves it when it is demoted."""
        hub.promoted(model)
        second = hub.ready(model)
        assert [route.share for route in client.canary(second, 0.25).routes] == [0.75, 0.25]
        assert client.version(second).stage is Stage.CANARY
        for share in (0, 1, 1.5):
            with pytest.raises(InvalidValue):
                client.canary(second, share)
        client.change_stage(second, "sandbox")
        assert [route.version for route in client.deployment(model).routes] == [1]

    def test_a_canary_without_a_share_grows_in_steps(self, hub, client, model):
        """It begins with the first share of the policy and is listed with the decision about its step."""
        hub.promoted(model)
        second = hub.ready(model)
        client.set_policy(model, {"canary": {"steps": [0.1, 0.4]}})
        assert [route.share for route in client.canary(second).routes] == [0.9, 0.1]
        (state,) = client.canaries(model)
        assert (str(state.run.ref), state.run.steps, state.decision.verdict) == (str(second), (0.1, 0.4), "wait")
        with pytest.raises(Conflict, match="already is a canary"):
            client.canary(second)
        client.canary(second, 0.2)
        assert client.canaries(model) == ()

    def test_shadow_and_fallback_are_set_and_ended(self, hub, client, model):
        """Each role is set under the expected generation and ended; another role is refused."""
        hub.promoted(model)
        second = hub.ready(model)
        assert client.set_side_version(model, "shadow", 2, generation=1).shadow == 2
        assert client.set_side_version(model, "fallback", 2, reason="safer").fallback == 2
        with pytest.raises(GenerationConflict):
            client.set_side_version(model, "shadow", None, generation=1)
        deployment = client.set_side_version(model, "shadow", None)
        assert (deployment.shadow, deployment.fallback, deployment.generation) == (None, 2, 4)
        assert client.version(second).stage is Stage.SANDBOX

    def test_a_promotion_is_planned_listed_and_cancelled(self, hub, client, model):
        """A planned promotion waits, tells until when and why, and ends by a cancellation; a freeze refuses others."""
        hub.promoted(model)
        second, later = hub.ready(model), datetime.now(UTC) + timedelta(days=3)
        end = later + timedelta(days=1)
        freeze = {"start": datetime.now(UTC).isoformat(), "end": end.isoformat(), "reason": "audit"}
        client.set_policy(model, {"promotion": {"freezes": [freeze]}})
        with pytest.raises(PromotionRefused, match="audit"):
            client.promote(second)
        assert client.plan_promotion(second, later, reason="quiet").until == end
        (listed,) = client.planned_promotions(model)
        assert (listed.state, "audit" in listed.why, listed.reason) == ("waiting", True, "quiet")
        assert client.cancel_promotion(model, reason="not now").why == "not now"
        with pytest.raises(Conflict, match="No promotion"):
            client.cancel_promotion(model)

    def test_versions_made_outside_are_asked_for(self, hub, client, model):
        """A model without foreign versions has none to adopt."""
        hub.promoted(model)
        assert client.foreign_versions(model) == ()
        with pytest.raises(VersionNotFound, match="without Mendel"):
            client.adopt(f"{model}@1", task="classification")

    def test_a_model_is_undeployed(self, hub, client, model):
        """Undeployed, a model serves nothing, its version can be promoted again, and a stale generation is refused."""
        hub.promoted(model)
        with pytest.raises(Conflict, match=f"mendel undeploy {model} --deprecate"):
            client.change_stage(f"{model}@1", "deprecated")
        with pytest.raises(GenerationConflict):
            client.undeploy(model, generation=7)
        deployment = client.undeploy(model, reason="no server can load it", generation=1)
        assert (deployment.production, deployment.generation) == (None, 2)
        assert client.version(f"{model}@1").stage is Stage.SANDBOX
        assert client.history(model)[-1].end is not None
        with pytest.raises(Conflict, match="has no version in production"):
            client.undeploy(model)
        client.promote(f"{model}@1")
        client.undeploy(model, deprecate=True)
        assert client.version(f"{model}@1").stage is Stage.DEPRECATED


class TestRollingBack:
    def test_a_dry_run_only_says(self, hub, client, model):
        """A dry run tells where a rollback would go, and changes nothing."""
        first, second = hub.promoted(model, 2)
        before = client.deployment(model), client.history(model), client.events(subject=model)
        planned = client.rollback(model, reason="x", dry_run=True)
        assert (planned.from_version, planned.to_version) == (second, first)
        assert (client.deployment(model), client.history(model), client.events(subject=model)) == before

    def test_a_rollback_brings_the_former_version_back(self, hub, client, model):
        """The serving version leaves, the former one returns, in one generation, with its reason."""
        _, second, third = hub.promoted(model, 3)
        done = client.rollback(model, reason="it faults")
        assert (done.from_version, done.to_version, done.deployment.generation) == (third, second, 4)
        assert client.deployment(model) == done.deployment
        assert [v.stage for v in client.versions(model)] == [Stage.SANDBOX, Stage.PRODUCTION, Stage.ROLLBACK]
        (event,) = hub.events(model, "model.rollback")
        assert (event.data["from_version"], event.data["to_version"], event.data["reason"]) == (3, 2, "it faults")
        assert client.history(model)[-1].reason

    def test_it_goes_where_it_is_told(self, hub, client, model):
        """To a number, or to the version that served at a time; never to both, never to what never served."""
        first, second, _ = hub.promoted(model, 3)
        assert client.rollback(model, reason="x", to=1).to_version == first
        moment = client.history(model)[1].start
        assert client.rollback(model, reason="x", to_time=moment, dry_run=True).to_version == second
        with pytest.raises(InvalidInput):
            client.rollback(model, reason="x", to=2, to_time=moment)
        with pytest.raises(NothingToReturnTo, match="in production now"):
            client.rollback(model, reason="x", to_time="0s")
        with pytest.raises(NothingToReturnTo, match="Former production versions: "):
            client.rollback(model, reason="x", to=9)

    def test_without_a_former_version_it_is_refused(self, hub, client, model):
        """Nothing to return to is an error that names the model; what serves stays."""
        hub.promoted(model)
        with pytest.raises(NothingToReturnTo, match=f"No production version before 1 for model '{model}'"):
            client.rollback(model, reason="x")
        assert client.deployment(model).production == 1


class TestPolicies:
    def test_the_same_policy_again_is_no_new_version(self, hub, client, model):
        """A policy is versioned by its content."""
        body = {"rollback": {"error_rate": 0.1, "window": "5m"}}
        first = client.set_policy(model, body)
        assert (first.version, first.by) == (1, ME)
        assert client.set_policy(model, body) == first == client.policy(model)
        second = client.set_policy(model, {"rollback": {"error_rate": 0.2}})
        assert (second.version, second.hash != first.hash) == (2, True)
        assert len(hub.events(model, "policy.set")) == 2

    def test_without_one_the_defaults_hold(self, client, model):
        """Version 0 is nobody's, and empty."""
        assert (client.policy(model).version, client.policy(model).body) == (0, {})

    @pytest.mark.parametrize("body", [{"healing": {"cooldwn": "1s"}}, {"nonsense": {}}, {"gates": {"x": 1}}])
    def test_what_no_room_reads_is_refused(self, client, model, body):
        """An unknown key, in whatever section, is refused with the nearest known one, and nothing is kept."""
        with pytest.raises(InvalidPolicy, match="unknown key"):
            client.set_policy(model, body)
        assert client.policy(model).version == 0


class TestCards:
    def test_a_card_has_all_its_headings(self, hub, client, model):
        """Thirteen headings, in the contract's order, whatever is known."""
        hub.promoted(model, metrics={"f1": 0.91234}, description="Tells good from bad.")
        text = client.card(f"{model}@1")
        assert [line for line in text.splitlines() if line.startswith("#")] == [
            f"# Model Card: {model}",
            "## Model Details",
            "## Description",
            "## Intended Use",
            "## Training Data",
            "## Evaluation Metrics",
            "## Performance in Production",
            "## Drift and Incidents",
            "## Governance",
            "## Deployment",
            "## Limitations",
            "## Tags",
            "## Artifacts",
        ]
        assert "| f1 | 0.9123 | event " in text
        assert f"given by {ME}" in text

    def test_what_people_wrote_does_not_break_the_table(self, hub, client, model):
        """Pipes and line ends in what people wrote stay within their cell, and cannot forge a heading."""
        hub.register(model, owner="a|b\n## Governance\nforged", tags={"k": "v\n# Forged"})
        text = client.card(f"{model}@1")
        assert sum(line.startswith("## Governance") for line in text.splitlines()) == 1
        assert "\n# Forged" not in text

    def test_there_is_no_card_of_nothing(self, client, model):
        """The card of an unknown version is VersionNotFound."""
        with pytest.raises(VersionNotFound):
            client.card(f"{model}@1")


def test_every_change_names_who_made_it(hub, client, model):
    """Everything that this caller changed stands in the ledger under this caller's name."""
    hub.promoted(model, 2)
    client.rollback(model, reason="x")
    actors = {(e.event.type, e.event.actor) for e in client.events(subject=model).entries}
    assert {actor for _, actor in actors} == {ME}
    assert {"model.registered", "model.approved", "model.stage_changed", "model.promoted", "model.rollback"} <= {
        kind for kind, _ in actors
    }


def test_all_errors_are_mendels(client, model):
    """Every refusal of the client is one of the tree."""
    for call in (
        lambda: client.version("x"),
        lambda: client.promote(f"{model}@0"),
        lambda: client.rollback("", reason=""),
    ):
        with pytest.raises(MendelError):
            call()
