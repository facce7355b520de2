"""Versions that were registered in the artefact store without Mendel, and their adoption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mendel.errors import Forbidden, InvalidInput, Unsupported, VersionNotFound
from mendel.registry.ports import ArtifactStore, ForeignVersion, Published, RegistryStore
from mendel.registry.registration import Registration
from mendel.registry.transactions import RegistryTransactions
from mendel.registry.version_records import VersionRecord
from mendel.registry.version_registration import artifact_key
from mendel.registry.versions import Versions
from mendel.values import ModelName, VersionRef
from mendel.values.mlmodel_file import Mlmodel, read_mlmodel_file

_GENERIC = "python_function"


class ForeignVersions:
    """Lists foreign versions, and adopts them as versions in development under their own number and uuid."""

    def __init__(self, transactions: RegistryTransactions, artifacts: ArtifactStore, versions: Versions) -> None:
        self._transactions = transactions
        self._artifacts = artifacts
        self._versions = versions

    def of(self, model: ModelName) -> tuple[ForeignVersion, ...]:
        """Give the foreign versions of *model*, by number; unfinished registrations of Mendel are not foreign."""

        def ours(store: RegistryStore) -> tuple[frozenset[int], list[str]]:
            pending = [artifact_key(one) for one in store.all_pending(model)]
            return frozenset(record.number for record in store.versions(model)), pending

        known, keys = self._transactions.read(ours)
        begun = {found.uuid for key in keys if (found := self._artifacts.find(key)) is not None}
        return tuple(one for one in self._artifacts.foreign(model, known=known) if one.uuid not in begun)

    def adopt(
        self,
        ref: VersionRef,
        *,
        by: str,
        flavor: str | None = None,
        task: str | None = None,
        roots: Sequence[str] | None = None,
    ) -> VersionRecord:
        """
        Register the foreign version *ref*, whose files stay where they are; they are hashed, but not loaded.

        Args:
            flavor: The flavour for loading; None takes the only one of the ``MLmodel`` file beside ``python_function``.
            task: ``classification`` or ``regression``; None takes the task of the ``MLmodel`` file.
            roots: The directories that the files may be in; None allows any directory.

        Raises:
            VersionNotFound: The artefact store has no foreign version *ref*.
            Unsupported: The version has no logged model, so it has no uuid.
            InvalidInput: The flavour or the task is missing and must be given, or the files are no artefact.
            Forbidden: The files are not in one of *roots*.
            ArtifactNotFound: The files are missing.
        """
        found = next((one for one in self.of(ref.model) if one.number == ref.number), None)
        if found is None:
            raise VersionNotFound(
                f"MLflow has no version {ref} that was registered without Mendel.",
                remedy=f"List them with: mendel models foreign {ref.model}",
            )
        if found.uuid is None:
            raise Unsupported(
                f"The version {ref} of MLflow has no logged model and therefore no uuid.",
                remedy="Download its files and register them with: mendel register DIR",
            )
        tree = self._artifacts.tree(found.uuid)
        _require_inside(tree, roots)
        mlmodel = read_mlmodel_file(tree)
        request = Registration(
            model=ref.model,
            flavor=flavor or _only_flavor(mlmodel),
            task=task or mlmodel.task or _no_task(ref),
            idempotency_key=f"adopted/{found.uuid}",
            tags={"mendel.adopted_from": found.source},
        )
        published = Published(
            key=f"{ref.model}/{request.idempotency_key}", uuid=found.uuid, number=ref.number, run_id=found.run_id
        )
        return self._versions.take_over(request, published, tree, by=by)


def _only_flavor(mlmodel: Mlmodel) -> str:
    own = [name for name in mlmodel.names if name != _GENERIC] or list(mlmodel.names)
    if len(own) == 1:
        return own[0]
    raise InvalidInput(
        f"The MLmodel file has the flavours {', '.join(own) or '(none)'}.", remedy="Choose one with --flavor."
    )


def _no_task(ref: VersionRef) -> str:
    raise InvalidInput(
        f"The files of {ref} do not say what the model predicts.", remedy="Give --task classification or regression."
    )


def _require_inside(tree: Path, roots: Sequence[str] | None) -> None:
    place = tree.resolve()
    if roots is not None and not any(Path(r).is_absolute() and place.is_relative_to(Path(r).resolve()) for r in roots):
        raise Forbidden(
            "The files of the version are not below one of the directories in hub.project_roots.",
            remedy="Adopt the version on the hub's machine without an API key, or add the directory to the setting.",
        )
