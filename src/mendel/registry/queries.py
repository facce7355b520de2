"""What the registry answers: versions, lineage, deployments, files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mendel.errors import ArtifactNotFound, VersionNotFound
from mendel.registry.apply_plan import deployment_of
from mendel.registry.context import RegistryContext, require_model, require_version
from mendel.registry.history import GateRecord, Tenure
from mendel.registry.lineage import Contributor, LineageEntry, contributors_of, lineage_of
from mendel.registry.ports import ForeignVersion, RegistryStore
from mendel.registry.version_records import VersionRecord
from mendel.values import (
    Deployment,
    DesiredModel,
    DesiredState,
    Digest,
    ModelName,
    VersionRef,
    VersionUuid,
)

_DATA = "data"


class Reading(RegistryContext):
    """The part of the registry that changes nothing."""

    def models(self) -> tuple[ModelName, ...]:
        """Every model that has a version, by name."""
        return self._read(lambda store: store.models())

    def versions(self, model: ModelName) -> tuple[VersionRecord, ...]:
        """
        Its versions, ascending.

        Raises:
            ModelNotFound: It has none.
        """

        def work(store: RegistryStore) -> tuple[VersionRecord, ...]:
            found = store.versions(model)
            if not found:
                require_model(store, model)
            return found

        return self._read(work)

    def version(self, ref: VersionRef) -> VersionRecord:
        """
        The version of *ref*.

        Raises:
            VersionNotFound: There is no such version.
        """
        return self._read(lambda store: require_version(store, ref))

    def by_uuid(self, uuid: VersionUuid) -> VersionRecord:
        """
        The version of *uuid*.

        Raises:
            VersionNotFound: There is no such version; an unreachable store raises StoreUnavailable instead.
        """
        found = self._read(lambda store: store.version_by_uuid(uuid))
        if found is None:
            raise VersionNotFound(f"There is no version with uuid {uuid}.")
        return found

    def by_image(self, digest: Digest) -> tuple[VersionRecord, ...]:
        """Every version that is delivered in the image of *digest*, by model and number; empty when none is."""
        return self._read(lambda store: store.versions_by_image(digest))

    def foreign(self, model: ModelName) -> tuple[ForeignVersion, ...]:
        """Versions of *model* that stand in the artefact store and were not born here."""
        known = self._read(lambda store: frozenset(record.number for record in store.versions(model)))
        return self._artifacts.foreign(model, known=known)

    def lineage(self, model: ModelName) -> tuple[LineageEntry, ...]:
        """
        Its versions in order, with deltas, contributors and cumulative improvement over the baseline.

        Raises:
            ModelNotFound: It has no version.
        """
        records = self.versions(model)
        return self._read(lambda store: lineage_of(records, _ancestors(store, records)))

    def contributors(self) -> tuple[Contributor, ...]:
        """Every contributor of every model, by address."""

        def work(store: RegistryStore) -> tuple[Contributor, ...]:
            records = [record for model in store.models() for record in store.versions(model)]
            return contributors_of(lineage_of(records, {record.ref: record for record in records}))

        return self._read(work)

    def deployment(self, model: ModelName) -> Deployment:
        """
        The desired state of *model*; generation 0 and no routes before its first change.

        Raises:
            ModelNotFound: It has no version.
        """

        def work(store: RegistryStore) -> Deployment:
            require_model(store, model)
            return deployment_of(store, model)

        return self._read(work)

    def desired_state(self) -> DesiredState:
        """All that servers shall serve, in one consistent read."""

        def work(store: RegistryStore) -> DesiredState:
            return DesiredState(
                revision=store.revision(),
                models=tuple(_desired(store, deployment) for deployment in store.deployments()),
                key_hashes={key.digest: key.scopes for key in store.api_keys()},
            )

        return self._read(work)

    def revision(self) -> int:
        """Grows with every change of :meth:`desired_state`."""
        return self._read(lambda store: store.revision())

    def history(self, model: ModelName) -> tuple[Tenure, ...]:
        """
        Which version was in production when, oldest first; who decided, and the events that carry the evidence.

        Raises:
            ModelNotFound: It has no version.
        """

        def work(store: RegistryStore) -> tuple[Tenure, ...]:
            require_model(store, model)
            return store.tenures(model)

        return self._read(work)

    def gate_records(self, ref: VersionRef) -> tuple[GateRecord, ...]:
        """
        The gate reports of *ref*, oldest first.

        Raises:
            VersionNotFound: There is no such version.
        """
        self.version(ref)
        return self._read(lambda store: store.gate_records(ref))

    def tree(self, ref: VersionRef) -> Path:
        """
        The directory of the version's files, to read only; ``data/`` in it is not served.

        Raises:
            VersionNotFound: There is no such version.
            ArtifactNotFound: Its files are gone.
        """
        return self._artifacts.tree(self.version(ref).uuid)

    def data(self, ref: VersionRef) -> Path | None:
        """
        The data directory kept beside the version's files, to read only; None: none was given.

        Raises:
            VersionNotFound: There is no such version.
            ArtifactNotFound: Its files are gone.
        """
        record = self.version(ref)
        return None if record.data_digest is None else self._artifacts.tree(record.uuid) / _DATA

    def tree_of(self, digest: Digest) -> Path:
        """
        The directory whose served files have *digest*; pack it without ``data``.

        Raises:
            ArtifactNotFound: No version has that digest.
        """
        record = self._read(lambda store: store.version_by_digest(digest))
        if record is None:
            raise ArtifactNotFound(f"No version has an artefact of digest {digest}.")
        return self._artifacts.tree(record.uuid)


def _desired(store: RegistryStore, deployment: Deployment) -> DesiredModel:
    records = [require_version(store, VersionRef(deployment.model, number)) for number in deployment.versions]
    return DesiredModel(deployment=deployment, versions=tuple(record.served for record in records))


def _ancestors(store: RegistryStore, records: Iterable[VersionRecord]) -> dict[VersionRef, VersionRecord]:
    known = {record.ref: record for record in records}
    wanted = [record.improvement.baseline for record in known.values() if record.improvement]
    while wanted:
        ref = wanted.pop()
        if ref in known:
            continue
        found = store.version(ref)
        if found is not None:
            known[ref] = found
            if found.improvement is not None:
                wanted.append(found.improvement.baseline)
    return known
