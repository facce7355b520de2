"""Admission of a version to production or canary: governance, gates, signature and code."""

from __future__ import annotations

from datetime import datetime

from mendel.errors import NeedsNewImage, PromotionRefused
from mendel.registry.api_keys import KEY_PREFIX
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
    builds: bool,
) -> Governance:
    """
    Check that *candidate* may reach users; return its governance flags, inherited flags included.

    Args:
        serving: The production version that *candidate* would replace or serve beside.
        parent: The version of the same model that *candidate* was made from.
        gate: The newest gate record of *candidate*.
        override: Replaces a passing gate record; all other checks still apply.
        builds: Whether servers may make the environments of versions.

    Raises:
        PromotionRefused: Governance, gates or signature forbid it; the error carries every reason.
        NeedsNewImage: *candidate* needs other code or dependencies than *serving*.
    """
    governance = inherited_governance(candidate, parent, policy, now)
    refusals = _governance_refusals(candidate, governance, policy)
    remedies = [f"Approve the version with: mendel approve {candidate.ref} --policy --bias"] if refusals else []
    if policy.gated and override is None and (closed := _gate_refusals(candidate, gate, serving)):
        refusals += closed
        remedies.append(
            "Train the version with 'mendel train', which runs the gates, or promote with --override and a reason."
        )
    if serving is not None and (unfit := signature_refusals(candidate, serving)):
        refusals += unfit
        remedies.append("Register a version whose signature accepts the requests of the production version.")
    if refusals:
        raise PromotionRefused(
            f"The version {candidate.ref} cannot serve users. {' '.join(refusals)}",
            reasons=refusals,
            remedy=" ".join(remedies),
        )
    if serving is not None:
        require_same_code(candidate, serving, builds=builds)
    return governance


def inherited_governance(
    record: VersionRecord, parent: VersionRecord | None, policy: PolicyDocument, now: datetime
) -> Governance:
    """
    Give the version's governance flags; with policy inheritance, also its parent's, if code and signature are equal.

    Code or a signature that is not known is equal to nothing. A version that an API key registered inherits nothing:
    its parent and digests are only what the caller stated.
    """
    own = record.governance
    stated = record.registered_by.startswith(KEY_PREFIX)
    known = record.code_digest is not None and record.signature is not None
    if not policy.governance.inherit or parent is None or stated or not known or not _same_code(record, parent):
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
    words = {Flag.POLICY: "Policy compliance", Flag.BIAS: "The bias check"}
    return tuple(
        f"{words[flag]} of {candidate.ref} is not approved."
        for flag in policy.governance.require
        if given[flag] is None
    )


def _gate_refusals(candidate: VersionRecord, gate: GateRecord | None, serving: VersionRecord | None) -> tuple[str, ...]:
    if gate is None:
        return (f"The version {candidate.ref} has no gate report.",)
    if serving is not None and gate.body.get("first_deployment"):
        return (f"The gate report of {candidate.ref} is for a first deployment; it compares with no {serving.ref}.",)
    return () if gate.passed else (f"The verdict of gate report {gate.report_digest} is {gate.verdict}.",)


def signature_refusals(candidate: VersionRecord, serving: VersionRecord) -> tuple[str, ...]:
    """Explain why *candidate* may reject requests that *serving* accepts; empty if it accepts all of them."""
    if serving.signature is None:
        return ()
    if candidate.signature is None:
        return (f"{candidate.ref} has no signature, but the production version {serving.ref} has a signature.",)
    if candidate.signature.accepts(serving.signature):
        return ()
    return (
        (
            f"The signature of {candidate.ref} does not accept every request that the production version "
            f"{serving.ref} accepts."
        ),
    )


def _same_code(one: VersionRecord, other: VersionRecord) -> bool:
    return (one.code_digest, one.lock_digest) == (other.code_digest, other.lock_digest)


def require_same_code(candidate: VersionRecord, serving: VersionRecord, *, builds: bool) -> None:
    """
    Check that the servers of *serving* can host *candidate*.

    They can if both have the same code and lock, or if *candidate* carries its code and its environment is there or may
    be made.

    Args:
        builds: Whether servers may make the environments of versions.

    Raises:
        NeedsNewImage: They cannot.
    """
    same_lock = candidate.lock_digest == serving.lock_digest
    if candidate.carries_code and (same_lock or (candidate.locked and builds)):
        return
    if not _same_code(candidate, serving):
        release = candidate.release_tag
        raise NeedsNewImage(
            f"{candidate.ref} has other code or dependencies than {serving.ref}, which is in production.",
            release=release,
            remedy=(
                f"Build and deploy the image of {release}."
                if release
                else "Release the version's project with 'mendel tag', then build and deploy the image."
            )
            + f" With 'mendel up' on one machine: stop it, run 'mendel undeploy {candidate.ref.model}', promote the "
            "version, and start it again.",
        )
