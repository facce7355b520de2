"""What may stand between a version and users: governance, gates, signature, code."""

from __future__ import annotations

from datetime import datetime

from mendel.errors import NeedsNewImage, PromotionRefused
from mendel.registry.history import GateRecord, Override
from mendel.registry.policies import Flag, PolicyDocument
from mendel.registry.version_records import Approval, Governance, VersionRecord


def admit(
    candidate: VersionRecord,
    *,
    serving: VersionRecord | None,
    parent: VersionRecord | None,
    policy: PolicyDocument,
    gate: GateRecord | None,
    override: Override | None,
    now: datetime,
) -> Governance:
    """
    Let *candidate* reach users, and tell with which governance flags, inherited ones included.

    Args:
        serving: The production version it would replace or stand beside.
        parent: The version it descends from, of the same model.
        gate: The newest gate record of exactly this version.
        override: Stands in for a passing gate record, and for nothing else.

    Raises:
        PromotionRefused: Governance, gates or signature stand against it; carries every reason.
        NeedsNewImage: It belongs to other code or dependencies than *serving*.
    """
    governance = inherited_governance(candidate, parent, policy, now)
    refusals = _governance_refusals(candidate, governance, policy)
    remedies = [f"Approve with `mendel approve {candidate.ref} --policy --bias`."] if refusals else []
    if policy.gated and override is None and (closed := _gate_refusals(candidate, gate)):
        refusals += closed
        remedies.append("Let its gates decide, or give a named override.")
    if serving is not None and (unfit := signature_refusals(candidate, serving)):
        refusals += unfit
        remedies.append("Register a version with the signature that serves.")
    if refusals:
        raise PromotionRefused(
            f"{candidate.ref} may not reach users. {' '.join(refusals)}", reasons=refusals, remedy=" ".join(remedies)
        )
    if serving is not None:
        require_same_code(candidate, serving)
    return governance


def inherited_governance(
    record: VersionRecord, parent: VersionRecord | None, policy: PolicyDocument, now: datetime
) -> Governance:
    """The version's flags, and its parent's where the policy passes them on and code and signature are equal."""
    own = record.governance
    if not policy.governance.inherit or parent is None or not _same_code(record, parent):
        return own
    if record.signature != parent.signature:
        return own
    by_policy = Approval(by=f"policy {policy.hash}", at=now)
    return Governance(
        policy_compliant=own.policy_compliant or (by_policy if parent.governance.policy_compliant else None),
        bias_check_passed=own.bias_check_passed or (by_policy if parent.governance.bias_check_passed else None),
    )


def _governance_refusals(candidate: VersionRecord, governance: Governance, policy: PolicyDocument) -> tuple[str, ...]:
    given = {Flag.POLICY: governance.policy_compliant, Flag.BIAS: governance.bias_check_passed}
    words = {Flag.POLICY: "policy compliance", Flag.BIAS: "the bias check"}
    return tuple(
        f"Nobody has approved {words[flag]} of {candidate.ref}."
        for flag in policy.governance.require
        if given[flag] is None
    )


def _gate_refusals(candidate: VersionRecord, gate: GateRecord | None) -> tuple[str, ...]:
    if gate is None:
        return (f"There is no gate report for {candidate.ref}.",)
    return () if gate.passed else (f"Its gate report {gate.report_digest} says {gate.verdict}.",)


def signature_refusals(candidate: VersionRecord, serving: VersionRecord) -> tuple[str, ...]:
    """Why requests valid for *serving* may be invalid for *candidate*; empty where they are not."""
    if serving.signature is None:
        return ()
    if candidate.signature is None:
        return (f"It has no signature, and {serving.ref} has one.",)
    if candidate.signature.accepts(serving.signature):
        return ()
    return (f"Its signature does not take what {serving.ref} takes.",)


def _same_code(one: VersionRecord, other: VersionRecord) -> bool:
    return (one.code_digest, one.lock_digest) == (other.code_digest, other.lock_digest)


def require_same_code(candidate: VersionRecord, serving: VersionRecord) -> None:
    """
    Let pass only what the servers of *serving* can host.

    Raises:
        NeedsNewImage: Another code or lock digest.
    """
    if not _same_code(candidate, serving):
        release = candidate.release_tag
        raise NeedsNewImage(
            f"{candidate.ref} belongs to other code or dependencies than {serving.ref}, which the servers host.",
            release=release,
            remedy=f"Build and deploy {release}." if release else "Release its project, and build and deploy that.",
        )
