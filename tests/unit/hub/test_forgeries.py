"""Approvals, gate reports and names are never taken from a request that brings them along."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mendel.errors import Conflict, Forbidden, PromotionRefused
from mendel.values import ModelName, VersionRef, to_json

CREDIT = ModelName("credit")
APPROVED = {"by": "ceo", "at": "2026-01-01T00:00:00Z"}
IMPROVED = {"baseline": {"model": "credit", "number": 1}, "contributor": "0x" + "a" * 40, "delta_metrics": {}}


def registering(hub, scope="register", changes=None, **brought):
    wish = {"model": CREDIT, "flavor": "sklearn", "task": "classification"} | brought
    form = {"data": {"registration": to_json(wish).decode()}, "files": {"artifact": ("a.tar", b"")}}
    return hub.http(scope, **(changes or {})).post(f"/api/v1/models/{CREDIT}/versions", **form)


@pytest.mark.parametrize(
    ("brought", "way_out"),
    [
        ({"governance": {"policy_compliant": APPROVED, "bias_check_passed": APPROVED}}, "mendel approve"),
        ({"approvals": [APPROVED]}, "mendel approve"),
        ({"gate_report": {"passed": True, "verdict": "pass"}}, "mendel train"),
        ({"by": "healing:INC-2026-1"}, "from the API key"),
        ({"actor": "ceo"}, "from the API key"),
        ({"improvement": IMPROVED | {"claimed": False}}, "Leave out 'claimed'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_registration_brings_no_evidence_along(hub, registered, brought, way_out):
    """What only another operation may say is refused with the way to get it, and no version is registered."""
    registered(CREDIT)
    for scope in ("register", "admin"):
        answer = registering(hub, scope, **brought)
        assert answer.status_code == 400, answer.text
        assert way_out in answer.json()["remedy"]
    assert len(hub.parts.registry.versions.of(CREDIT)) == 1


def test_a_key_names_repositories_below_the_roots_only(hub, tmp_path):
    """The hub runs the code of a repository, so a key cannot point the hub to a directory of its own choice."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for directory in (root / "credit", outside):
        directory.mkdir(parents=True)
    (root / "link").symlink_to(outside)
    roots = {"project_roots": (str(tmp_path / "absent"), str(root), "https://example.com/risk")}
    named = (
        outside,
        root / "link",
        root / ".." / "outside",
        root / "absent",
        "credit",
        "https://example.com/credit.git",
        "https://example.com/risk/../credit.git",
        "https://example.com/risky/credit.git",
        "file:///etc",
    )
    for repository in named:
        project = {"repository": str(repository), "classifier": "credit", "tag": "v1"}
        answer = registering(hub, "admin", roots, project=project)
        assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden"), repository
        assert "hub.project_roots" in answer.json()["remedy"]
    for repository in (root / "credit", "https://example.com/risk/credit.git"):
        inside = {"repository": str(repository), "classifier": "credit", "tag": "v1"}
        refused = registering(hub, "register", roots, project=inside).json()["detail"]
        assert "tar archive" in refused  # the artefact is empty
    assert registering(hub, "register", project=inside).status_code == 403
    assert hub.parts.registry.versions.models() == ()


@pytest.mark.parametrize("brought", ["governance", "gate_report", "actor", "by"])
def test_a_stage_change_brings_no_evidence_along(hub, registered, brought):
    """A change of stage, a promotion and an approval name neither approvals, gate reports nor a person."""
    registered(CREDIT)
    for change, body in (("stage", {"to": "sandbox"}), ("promote", {}), ("approve", {"policy": True})):
        answer = hub.http().post(f"/api/v1/models/{CREDIT}/versions/1/{change}", json=body | {brought: "forged"})
        assert (answer.status_code, answer.json()["remedy"] != "") == (400, True), answer.text
    assert hub.parts.registry.versions.get(VersionRef(CREDIT, 1)).governance.policy_compliant is None


def test_nobody_posts_a_gate_report(hub, registered):
    """No route takes a gate report, whatever the key."""
    registered(CREDIT)
    report = {"report_digest": "sha256:0", "passed": True, "verdict": "pass", "at": "2026-01-01T00:00:00Z"}
    answer = hub.http().post(f"/api/v1/models/{CREDIT}/versions/1/gate-reports", json=report)
    assert answer.status_code == 404
    assert hub.parts.registry.lifecycle.gate_records(VersionRef(CREDIT, 1)) == ()


def test_who_deploys_does_not_approve(hub, registered):
    """A key with ``deploy`` can neither approve a version nor change which approvals a version needs."""
    ref = registered(CREDIT)
    hub.parts.registry.lifecycle.transition(ref, "sandbox", by="test", without_parity="no rows")
    deployer = hub.client("deploy")
    with pytest.raises(Forbidden, match="lacks the scope 'approve'"):
        deployer.approve(ref, policy=True, bias=True)
    with pytest.raises(Forbidden, match="section 'governance'"):
        deployer.set_policy(CREDIT, {"governance": {"require": []}})
    deployer.set_policy(CREDIT, {"rollback": {"error_rate": 0.1}, "governance": {}})
    with pytest.raises(PromotionRefused):
        deployer.promote(ref)
    hub.client("approve").approve(ref, policy=True, bias=True)
    assert deployer.promote(ref).production == 1


def test_who_registered_does_not_approve_where_two_people_are_asked_for(hub, registered):
    """With ``governance.two_people`` the key that registered is refused, and is told which keys may approve."""
    both = hub.parts.registry.keys.add(("approve", "register"), "both")
    ref = registered(CREDIT, by=f"key:{both.id}")
    client = hub.client("admin")
    client.set_policy(CREDIT, {"governance": {"two_people": True}})
    client._http.headers["authorization"] = f"Bearer {both.secret}"
    with pytest.raises(Conflict, match="two people") as caught:
        client.approve(ref, policy=True)
    assert caught.value.remedy == f"These may approve it: {hub.principal('admin')} (admin)."
    other = hub.client("approve").approve(ref, policy=True)
    assert other.governance.policy_compliant.by == hub.principal("approve")


def test_python_approves_with_the_callers_own_key(hub):
    """``governance=`` registers and then approves with the same key; without ``approve`` nothing is registered."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    told = {"model": model, "model_type": "classification", "name": "iris", "governance": {"policy_compliant": True}}
    with pytest.raises(Forbidden, match="lacks the scope 'approve', so nothing was registered"):
        hub.client("register").register_baseline(**told)
    assert hub.parts.registry.versions.models() == ()
    registered = hub.client("admin").register_baseline(**told)
    approved = hub.parts.registry.versions.get(VersionRef(ModelName("iris"), registered.version)).governance
    assert (approved.policy_compliant.by, approved.bias_check_passed) == (hub.principal("admin"), None)
