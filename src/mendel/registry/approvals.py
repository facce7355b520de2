"""What people and gates vouch for, and what others may see of it."""

from __future__ import annotations

from dataclasses import replace

from mendel.durable import Payload, Run, StepKey, Transaction, WorkflowFunction
from mendel.errors import GenerationConflict
from mendel.registry.apply_plan import deployment_of
from mendel.registry.context import RegistryContext, described, require_version
from mendel.registry.history import GateRecord
from mendel.registry.ports import Mirror, RegistryStore
from mendel.registry.registration import require_same_release
from mendel.registry.version_records import Approval, VersionImage, VersionRecord
from mendel.values import ModelName, VersionRef

_MIRROR_TRIES = 8


class Approving(RegistryContext):
    """The part of the registry that keeps approvals and gate reports, and mirrors the state machine outside."""

    def approve(self, ref: VersionRef, *, policy: bool = False, bias: bool = False, by: str) -> VersionRecord:
        """
        Set governance flags, with who and when; a flag that is False stays as it is.

        Raises:
            VersionNotFound: There is no such version.
        """
        now = self._clock()
        approval = Approval(by=by, at=now)

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            record = require_version(store, ref)
            governance = replace(
                record.governance,
                policy_compliant=approval if policy else record.governance.policy_compliant,
                bias_check_passed=approval if bias else record.governance.bias_check_passed,
            )
            approved = replace(record, governance=governance)
            store.replace_version(approved)
            tx.append(
                self._event("model.approved", str(ref), by, now, **described(record, now), policy=policy, bias=bias)
            )
            return approved

        return self._unit.write(work)

    def record_image(self, ref: VersionRef, image: VersionImage, *, by: str) -> VersionRecord:
        """
        Say which container image delivers *ref*; the same one again changes nothing.

        A version without a release takes the image's. Servers that hold the version learn of it with the next change
        of its deployment.

        Raises:
            VersionNotFound: There is no such version.
            Conflict: The image is of another release than the version.
        """
        now = self._clock()

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            record = require_version(store, ref)
            require_same_release(image, record.release_tag)
            changed = replace(record, image=image, release_tag=record.release_tag or image.release_tag)
            if changed == record:
                return record
            store.replace_version(changed)
            told = {"reference": image.reference, "digest": image.digest, "release_tag": changed.release_tag}
            before = None if record.image is None else record.image.digest
            tx.append(
                self._event(
                    "model.image_recorded",
                    str(ref),
                    by,
                    now,
                    **described(record, now),
                    image=told,
                    former_digest=before,
                )
            )
            return changed

        return self._unit.write(work)

    def record_gate_report(
        self, ref: VersionRef, record: GateRecord, *, by: str = "gates", step: StepKey | None = None
    ) -> GateRecord:
        """
        Keep a gate report; the newest one of a version decides its promotion.

        Raises:
            VersionNotFound: There is no such version.
        """

        def work(tx: Transaction) -> GateRecord:
            store = tx.store(RegistryStore)
            version = require_version(store, ref)
            store.add_gate_record(ref, record)
            tx.append(
                self._event(
                    "gate.decided",
                    str(ref),
                    by,
                    record.at,
                    **described(version, record.at),
                    verdict=record.verdict,
                    passed=record.passed,
                    report_digest=record.report_digest,
                )
            )
            return record

        return self._write(GateRecord, work, step)

    def mirror(self, model: ModelName) -> Mirror:
        """
        Make the artefact store's alias and tags agree with the registry, and give back what is read afterwards.

        Level-triggered: it writes what stands now, whatever change asked for it, and looks again until nothing moved.

        Raises:
            GenerationConflict: The registry moved faster than the mirror could follow; try again.
            StoreUnavailable: The artefact store does not answer.
        """
        with self._serial[model]:
            state = self._read(lambda store: _mirrored(store, model))
            for _ in range(_MIRROR_TRIES):
                seen = self._artifacts.mirror(model, state)
                after = self._read(lambda store: _mirrored(store, model))
                if after == state:
                    return seen
                state, before = after, state
        raise GenerationConflict(
            f"{model} changed all the while it was mirrored.", expected=before.generation, actual=state.generation
        )


def mirror_alias(registry: Approving) -> WorkflowFunction:
    """The body of the workflow :data:`MIRROR_ALIAS`: one step, which may be repeated."""

    def run_mirror(run: Run, call: Payload) -> Payload:
        def mirror() -> Payload:
            seen = registry.mirror(ModelName(call["model"]))
            return {"production": seen.production, "generation": seen.generation}

        return run.step("mirror", mirror)

    return run_mirror


def _mirrored(store: RegistryStore, model: ModelName) -> Mirror:
    deployment = deployment_of(store, model)
    stages = {record.number: record.stage for record in store.versions(model)}
    return Mirror(production=deployment.production, generation=deployment.generation, stages=stages)
