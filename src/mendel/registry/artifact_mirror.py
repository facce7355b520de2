"""Copy the stages in the registry to the alias and tags in the artefact store."""

from __future__ import annotations

from mendel.durable import Payload, WorkflowContext, WorkflowFunction
from mendel.errors import GenerationConflict
from mendel.registry.ports import ArtifactStore, Mirror, RegistryStore
from mendel.registry.stage_transitions import deployment_of
from mendel.registry.transactions import ModelLocks, RegistryTransactions
from mendel.values import ModelName

_MIRROR_TRIES = 8


class ArtifactMirror:
    """Copies stages of versions to the artefact store, as an alias and tags."""

    def __init__(self, transactions: RegistryTransactions, artifacts: ArtifactStore, locks: ModelLocks) -> None:
        self._transactions = transactions
        self._artifacts = artifacts
        self._locks = locks

    def mirror(self, model: ModelName) -> Mirror:
        """
        Make the artefact store's alias and tags agree with the registry, and return them as read afterwards.

        The current state is written, not a single change, and written again until the registry stays the same.

        Raises:
            GenerationConflict: The registry kept changing during the copy; try again.
            StoreUnavailable: The artefact store does not answer.
        """
        with self._locks.of(model):
            state = self._transactions.read(lambda store: mirrored_state(store, model))
            for _ in range(_MIRROR_TRIES):
                seen = self._artifacts.mirror(model, state)
                after = self._transactions.read(lambda store: mirrored_state(store, model))
                if after == state:
                    return seen
                state, before = after, state
        raise GenerationConflict(
            f"The stages of {model} could not be copied to MLflow, because the deployment kept changing.",
            expected=before.generation,
            actual=state.generation,
        )


def mirror_alias(artifact_mirror: ArtifactMirror) -> WorkflowFunction:
    """Make the function of the workflow :data:`MIRROR_ALIAS`, with one repeatable step."""

    def run_mirror(run: WorkflowContext, call: Payload) -> Payload:
        def mirror() -> Payload:
            seen = artifact_mirror.mirror(ModelName(call["model"]))
            return {"production": seen.production, "generation": seen.generation}

        return run.step("mirror", mirror)

    return run_mirror


def mirrored_state(store: RegistryStore, model: ModelName) -> Mirror:
    """Give alias and tags as the artefact store should show them."""
    deployment = deployment_of(store, model)
    stages = {record.number: record.stage for record in store.versions(model)}
    return Mirror(production=deployment.production, generation=deployment.generation, stages=stages)
