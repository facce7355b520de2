"""Register versions, and look up registered versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mendel.durable import Clock, Transaction
from mendel.errors import ArtifactNotFound, Conflict, VersionNotFound
from mendel.registry.lineage import Contributor, LineageEntry, contributors_of, lineage_of
from mendel.registry.lookups import require_model, require_version
from mendel.registry.ports import ArtifactStore, Published, RegistryStore
from mendel.registry.registration import PendingRegistration, Registered, Registration, require_same_release
from mendel.registry.transactions import ModelLocks, RegistryTransactions
from mendel.registry.version_records import VersionImage, VersionRecord
from mendel.registry.version_registration import (
    DATA_DIRECTORY,
    artifact_key,
    begin_registration,
    data_digest_of,
    mark_swept,
    parity_of,
    publication_of,
    reference_digest_of,
    require_flavor,
    version_record,
)
from mendel.values import Digest, ModelName, VersionRef, VersionUuid
from mendel.values.directory_trees import tree_digest
from mendel.values.mlmodel_file import read_mlmodel_file

_ABANDONED = timedelta(hours=1)


class Versions:
    """
    Registers and looks up the versions of all models, with lineage, images and files.

    Every change is one transaction together with its events.
    """

    def __init__(
        self, transactions: RegistryTransactions, artifacts: ArtifactStore, clock: Clock, locks: ModelLocks
    ) -> None:
        self._transactions = transactions
        self._artifacts = artifacts
        self._clock = clock
        self._locks = locks

    def register(
        self, request: Registration, tree: Path, *, data: Path | None = None, by: str = "registry"
    ) -> VersionRecord:
        """
        Register a new version with the files in *tree*.

        After a failure no version is listed; the same call with the same key completes the registration.

        Args:
            tree: The directory to serve, with an ``MLmodel`` file; the artefact store copies it.
            data: A directory that is stored as ``data/`` but not served, such as training and holdout rows.
            by: The principal that registers.

        Raises:
            InvalidInput: *tree* is not an artefact, or lacks the requested flavour.
            VersionNotFound: The parent or the baseline does not exist.
            AlreadyExists: The idempotency key was used for other content.
            StoreUnavailable: The artefact store does not answer.
        """
        mlmodel = require_flavor(read_mlmodel_file(tree), request.flavor)
        parity = parity_of(tree)
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
            request,
            pending,
            mlmodel,
            published,
            reference_digest=reference_digest_of(tree),
            parity=parity,
            by=by,
            now=self._clock(),
        )
        registered = self._transactions.write(lambda tx: self._end(tx, pending, record))
        if registered.uuid != published.uuid:  # another process completed the same registration first
            self._artifacts.discard(published.key, uuid=published.uuid)
        return registered

    def take_over(self, request: Registration, published: Published, tree: Path, *, by: str) -> VersionRecord:
        """
        Register files that the artefact store already has as *published*, in the directory *tree*.

        Raises:
            InvalidInput: *tree* is not an artefact, or lacks the requested flavour.
        """
        mlmodel, parity = require_flavor(read_mlmodel_file(tree), request.flavor), parity_of(tree)
        now = self._clock()
        pending = PendingRegistration(
            model=request.model,
            idempotency_key=request.idempotency_key or self._transactions.new_id(),
            artifact_digest=tree_digest(tree, exclude=(DATA_DIRECTORY,)),
            data_digest=data_digest_of(tree, None),
            requested_at=now,
        )
        record = version_record(
            request,
            pending,
            mlmodel,
            published,
            reference_digest=reference_digest_of(tree),
            parity=parity,
            by=by,
            now=now,
        )

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            if store.version_by_key(pending.model, pending.idempotency_key) is None:
                store.put_pending(pending)
            return self._end(tx, pending, record)

        return self._transactions.write(work)

    def registered(self, ref: VersionRef) -> Registered:
        """
        Give the result of the registration of *ref*.

        Raises:
            VersionNotFound: The version does not exist.
        """
        record = self._transactions.read(lambda store: require_version(store, ref))
        where = self._artifacts.tree(record.uuid)
        return Registered.of(record, artifact_path=str(where), mlflow_version=self._artifacts.mlflow_version)

    def record_image(self, ref: VersionRef, image: VersionImage, *, by: str) -> VersionRecord:
        """
        Record the container image that contains *ref*; recording the same image again changes nothing.

        A version without a release gets the image's release. Servers see the image after the next change of the model's
        deployment.

        Raises:
            VersionNotFound: The version does not exist.
            Conflict: The image has another release than the version.
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
        """
        Delete the artefacts of registrations that were begun more than *older_than* ago and not completed; gives their
        number.
        """
        before = self._clock() - older_than
        swept = self._transactions.write(lambda tx: mark_swept(tx.store(RegistryStore), before))
        for pending in swept:
            self._artifacts.discard(artifact_key(pending))
            self._forget(pending)
        return len(swept)

    def models(self) -> tuple[ModelName, ...]:
        """Give every model that has a version, by name."""
        return self._transactions.read(lambda store: store.models())

    def of(self, model: ModelName) -> tuple[VersionRecord, ...]:
        """
        Give the versions of *model*, ascending.

        Raises:
            ModelNotFound: The model has no version.
        """

        def work(store: RegistryStore) -> tuple[VersionRecord, ...]:
            found = store.versions(model)
            if not found:
                require_model(store, model)
            return found

        return self._transactions.read(work)

    def get(self, ref: VersionRef) -> VersionRecord:
        """
        Find the version of *ref*.

        Raises:
            VersionNotFound: The version does not exist.
        """
        return self._transactions.read(lambda store: require_version(store, ref))

    def by_uuid(self, uuid: VersionUuid) -> VersionRecord:
        """
        Find the version with *uuid*.

        Raises:
            VersionNotFound: No version has this uuid; an unreachable store raises StoreUnavailable instead.
        """
        found = self._transactions.read(lambda store: store.version_by_uuid(uuid))
        if found is None:
            raise VersionNotFound(f"No version has the uuid {uuid}.")
        return found

    def by_image(self, digest: Digest) -> tuple[VersionRecord, ...]:
        """Give every version in the image *digest*, by model and number; empty for an unknown image."""
        return self._transactions.read(lambda store: store.versions_by_image(digest))

    def lineage(self, model: ModelName) -> tuple[LineageEntry, ...]:
        """
        Give the model's versions in order, with deltas, contributors and the cumulative improvement over the baseline.

        Raises:
            ModelNotFound: The model has no version.
        """
        records = self.of(model)
        return self._transactions.read(lambda store: lineage_of(records, _ancestors(store, records)))

    def contributors(self) -> tuple[Contributor, ...]:
        """Give the contributors of all models, by address."""

        def work(store: RegistryStore) -> tuple[Contributor, ...]:
            records = [record for model in store.models() for record in store.versions(model)]
            return contributors_of(lineage_of(records, {record.ref: record for record in records}))

        return self._transactions.read(work)

    def tree(self, ref: VersionRef) -> Path:
        """
        Give the directory of the version's files, for reading only; its ``data/`` is not served.

        Raises:
            VersionNotFound: The version does not exist.
            ArtifactNotFound: The version's files are missing.
        """
        return self._artifacts.tree(self.get(ref).uuid)

    def data(self, ref: VersionRef) -> Path | None:
        """
        Give the data directory of the version, for reading only; None if none was given.

        Raises:
            VersionNotFound: The version does not exist.
            ArtifactNotFound: The version's files are missing.
        """
        record = self.get(ref)
        return None if record.data_digest is None else self._artifacts.tree(record.uuid) / DATA_DIRECTORY

    def tree_by_digest(self, digest: Digest) -> Path:
        """
        Give the directory whose served files have *digest*; pack it without ``data``.

        Raises:
            ArtifactNotFound: No version has that digest.
        """
        record = self._transactions.read(lambda store: store.version_by_digest(digest))
        if record is None:
            raise ArtifactNotFound(f"No version has an artefact with the digest {digest}.")
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
                f"The registration of a version of {pending.model} took too long, so its files were deleted.",
                remedy="Register the version again.",
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
