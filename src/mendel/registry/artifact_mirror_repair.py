"""Compare alias and tags in the artefact store with the stages, and write them again where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mendel.errors import MendelError
from mendel.registry.artifact_mirror import ArtifactMirror, mirrored_state
from mendel.registry.ports import ArtifactStore, MirroredAlias, RegistryStore
from mendel.registry.transactions import RegistryTransactions
from mendel.values import ModelName

_TAGGED_AT_ONCE: Final = 100
"""How many models get their tags compared in one call; reading the tags of a model costs milliseconds."""
_NOTHING: Final = MirroredAlias(production=None, generation=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaggingModel:
    """A model whose alias or tags could not be repaired; ``since`` is the first comparison that found a difference."""

    model: ModelName
    since: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorReading:
    """
    How far the artefact store lags behind the stages.

    Attributes:
        at: The time of the last comparison; None before the first.
        models: The number of models compared.
        repaired: The number of models written again since this process started.
        lagging: The models that still differ.
    """

    at: datetime | None = None
    models: int = 0
    repaired: int = 0
    lagging: tuple[LaggingModel, ...] = ()


class MirrorRepair:
    """
    Repairs what a failed workflow, a restored backup or another program left wrong in the artefact store.

    Each call compares the aliases of all models, and the tags of the next 100 models in turn.
    """

    def __init__(self, transactions: RegistryTransactions, artifacts: ArtifactStore, mirror: ArtifactMirror) -> None:
        self._transactions = transactions
        self._artifacts = artifacts
        self._mirror = mirror
        self._next = 0
        self.reading = MirrorReading()

    def compare(self, now: datetime) -> MirrorReading:
        """
        Compare, repair, and give the reading; the models that lag are written in every call until they agree.

        Raises:
            StoreUnavailable: The artefact store does not answer; the reading stays as it was.
        """
        wanted = self._transactions.read(_aliases)
        shown = self._artifacts.aliases()
        before = {one.model: one for one in self.reading.lagging}
        wrong = {model: "" for model, alias in wanted.items() if shown.get(model, _NOTHING) != alias}
        wrong |= {model: "" for model in before if model in wanted}
        for model in self._turn(sorted(wanted)):
            if model not in wrong and self._differs(model):
                wrong[model] = ""
        failed = {model: why for model in sorted(wrong) if (why := self._written(model)) is not None}
        lagging = (
            LaggingModel(model=model, since=before[model].since if model in before else now, why=why)
            for model, why in failed.items()
        )
        self.reading = MirrorReading(
            at=now,
            models=len(wanted),
            repaired=self.reading.repaired + len(wrong) - len(failed),
            lagging=tuple(lagging),
        )
        return self.reading

    def _turn(self, models: list[ModelName]) -> list[ModelName]:
        first = self._next if self._next < len(models) else 0
        self._next = first + _TAGGED_AT_ONCE
        return models[first : self._next]

    def _differs(self, model: ModelName) -> bool:
        state = self._transactions.read(lambda store: mirrored_state(store, model))
        return self._artifacts.mirrored(model, known=frozenset(state.stages)) != state

    def _written(self, model: ModelName) -> str | None:
        """Write alias and tags of *model*; gives why they still differ, or None."""
        try:
            seen = self._mirror.mirror(model)
        except MendelError as error:
            return str(error)
        state = self._transactions.read(lambda store: mirrored_state(store, model))
        return None if seen == state else "MLflow shows another state right after it was written"


def _aliases(store: RegistryStore) -> dict[ModelName, MirroredAlias]:
    deployed = {
        one.model: MirroredAlias(production=one.production, generation=one.generation) for one in store.deployments()
    }
    return {model: deployed.get(model, _NOTHING) for model in store.models()}
