"""Registering versions, and looking up what was registered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mendel.durable import Clock, Transaction
from mendel.errors import ArtifactNotFound, Conflict, VersionNotFound
from mendel.registry.lineage import Contributor, LineageEntry, contributors_of, lineage_of
from mendel.registry.lookups import require_model, require_version
from mendel.registry.mlmodel_file import read_descriptor
from mendel.registry.ports import ArtifactStore, ForeignVersion, RegistryStore
from mendel.registry.registration import PendingRegistration, Registered, Registration, require_same_release
from mendel.registry.transactions import ModelLocks, RegistryTransactions
from mendel.registry.version_records import VersionImage, VersionRecord
from mendel.registry.version_registration import (
    DATA_DIRECTORY,
    artifact_key,
    begin_registration,
    data_digest_of,
    mark_swept,
    publication_of,
    reference_digest_of,
    require_flavor,
    version_record,
)
from mendel.values import Digest, ModelName, VersionRef, VersionUuid
from mendel.values.directory_trees import tree_digest

_ABANDONED = timedelta(hours=1)


class Versions:
    """
    The versions of every model: registered, looked up, with their lineage, images and files.

    Every change is one transaction together with its events.
    """

    def __init__(
        self, transactions: RegistryTransactions, artifacts: ArtifactStore, clock: Clock, locks: ModelLocks
    ) -> None:
        self._transactions = transactions
        self._artifacts = artifacts
        self._clock = clock
        self._locks = locks

    def register(self, request: Registration, tree: Path, *, data: Path | None = None) -> VersionRecord:
        """
        Make one version of the files in *tree*.

        A failure half-way leaves nothing that is listed; the same call with the same key then ends what was begun.

        Args:
            tree: The directory that is served, with its ``MLmodel``; read, and copied by the artefact store.
            data: A directory kept beside it as ``data/`` and not served: training set, hold-out.

        Raises:
            InvalidInput: The tree is not an artefact, or its flavours do not hold the one asked for.
            VersionNotFound: The parent or the baseline does not exist.
            AlreadyExists: The idempotency key stands for other content.
            StoreUnavailable: The artefact store does not answer.
        """
        descriptor = require_flavor(read_descriptor(tree), request.flavor)
        pending = PendingRegistration(
            model=request.model,
            idempotency_key=request.idempotency_key or self._transactions.new_id(),
            artifact_digest=tree_digest(tree, exclude=(DATA_DIRECTORY,)),
            data_digest=data_digest_of(tree, data),
            requested_at=self._clock(),
        )
        known = self._transactions.write(lambda tx: begin_registration(tx.store(RegistryStore), request, pending))
        if known is not None:
            return known
        with self._locks.of(request.model):
            published = self._artifacts.publish(publication_of(request, pending), tree, data=data)
        record = version_record(
            request, pending, descriptor, published, reference_digest=reference_digest_of(tree), now=self._clock()
        )
        registered = self._transactions.write(lambda tx: self._end(tx, pending, record))
        if registered.uuid != published.uuid:  # another process ended the same registration first
            self._artifacts.discard(published.key, uuid=published.uuid)
        return registered

    def registered(self, ref: VersionRef) -> Registered:
        """
        What registering *ref* answered.

        Raises:
            VersionNotFound: There is no such version.
        """
        record = self._transactions.read(lambda store: require_version(store, ref))
        where = self._artifacts.tree(record.uuid)
        return Registered.of(record, artifact_path=str(where), mlflow_version=self._artifacts.mlflow_version)

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
                self._transactions.version_event(
                    "model.image_recorded",
                    record,
                    by,
                    now,
                    image=told,
                    former_digest=before,
                )
            )
            return changed

        return self._transactions.write(work)

    def sweep_pending(self, *, older_than: timedelta = _ABANDONED) -> int:
        """Delete what registrations begun before that and never ended have left behind; gives their number."""
        before = self._clock() - older_than
        swept = self._transactions.write(lambda tx: mark_swept(tx.store(RegistryStore), before))
        for pending in swept:
            self._artifacts.discard(artifact_key(pending))
            self._forget(pending)
        return len(swept)

    def models(self) -> tuple[ModelName, ...]:
        """Every model that has a version, by name."""
        return self._transactions.read(lambda store: store.models())

    def of(self, model: ModelName) -> tuple[VersionRecord, ...]:
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

        return self._transactions.read(work)

    def get(self, ref: VersionRef) -> VersionRecord:
        """
        The version of *ref*.

        Raises:
            VersionNotFound: There is no such version.
        """
        return self._transactions.read(lambda store: require_version(store, ref))

    def by_uuid(self, uuid: VersionUuid) -> VersionRecord:
        """
        The version of *uuid*.

        Raises:
            VersionNotFound: There is no such version; an unreachable store raises StoreUnavailable instead.
        """
        found = self._transactions.read(lambda store: store.version_by_uuid(uuid))
        if found is None:
            raise VersionNotFound(f"No version has uuid {uuid}.")
        return found

    def by_image(self, digest: Digest) -> tuple[VersionRecord, ...]:
        """Every version that is delivered in the image of *digest*, by model and number; empty when none is."""
        return self._transactions.read(lambda store: store.versions_by_image(digest))

    def foreign(self, model: ModelName) -> tuple[ForeignVersion, ...]:
        """Versions of *model* that stand in the artefact store and were not born here."""
        known = self._transactions.read(lambda store: frozenset(record.number for record in store.versions(model)))
        return self._artifacts.foreign(model, known=known)

    def lineage(self, model: ModelName) -> tuple[LineageEntry, ...]:
        """
        Its versions in order, with deltas, contributors and cumulative improvement over the baseline.

        Raises:
            ModelNotFound: It has no version.
        """
        records = self.of(model)
        return self._transactions.read(lambda store: lineage_of(records, _ancestors(store, records)))

    def contributors(self) -> tuple[Contributor, ...]:
        """Every contributor of every model, by address."""

        def work(store: RegistryStore) -> tuple[Contributor, ...]:
            records = [record for model in store.models() for record in store.versions(model)]
            return contributors_of(lineage_of(records, {record.ref: record for record in records}))

        return self._transactions.read(work)

    def tree(self, ref: VersionRef) -> Path:
        """
        The directory of the version's files, to read only; ``data/`` in it is not served.

        Raises:
            VersionNotFound: There is no such version.
            ArtifactNotFound: Its files are gone.
        """
        return self._artifacts.tree(self.get(ref).uuid)

    def data(self, ref: VersionRef) -> Path | None:
        """
        The data directory kept beside the version's files, to read only; None: none was given.

        Raises:
            VersionNotFound: There is no such version.
            ArtifactNotFound: Its files are gone.
        """
        record = self.get(ref)
        return None if record.data_digest is None else self._artifacts.tree(record.uuid) / DATA_DIRECTORY

    def tree_by_digest(self, digest: Digest) -> Path:
        """
        The directory whose served files have *digest*; pack it without ``data``.

        Raises:
            ArtifactNotFound: No version has that digest.
        """
        record = self._transactions.read(lambda store: store.version_by_digest(digest))
        if record is None:
            raise ArtifactNotFound(f"No version has an artefact of digest {digest}.")
        return self._artifacts.tree(record.uuid)

    def _forget(self, pending: PendingRegistration) -> None:
        self._transactions.write(
            lambda tx: tx.store(RegistryStore).drop_pending(pending.model, pending.idempotency_key)
        )

    def _end(self, tx: Transaction, pending: PendingRegistration, record: VersionRecord) -> VersionRecord:
        store = tx.store(RegistryStore)
        known = store.version_by_key(pending.model, pending.idempotency_key)
        if known is not None:
            return known
        standing = store.pending(pending.model, pending.idempotency_key)
        if standing is None or standing.swept:
            raise Conflict(
                f"The registration of {pending.model} took too long; its files were deleted.", remedy="Register again."
            )
        store.drop_pending(pending.model, pending.idempotency_key)
        store.add_version(record)
        now = record.registered_at
        tx.append(
            self._transactions.version_event(
                "model.registered",
                record,
                record.registered_by,
                now,
                uuid=record.uuid,
                stage=record.stage,
                artifact_digest=record.artifact_digest,
                release_tag=record.release_tag,
                image_digest=None if record.image is None else record.image.digest,
                parent=None if record.parent is None else str(record.parent),
            )
        )
        return record


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
