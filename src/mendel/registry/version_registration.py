"""Registering: a row first, then the artefact, then the version and its event together."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from mendel.durable import Transaction
from mendel.errors import AlreadyExists, Conflict, InvalidInput
from mendel.registry.context import RegistryContext, described, require_version
from mendel.registry.mlmodel_file import Descriptor, read_descriptor
from mendel.registry.ports import Publication, Published, RegistryStore
from mendel.registry.registration import PendingRegistration, Registered, Registration
from mendel.registry.version_records import VersionRecord
from mendel.values import Digest, VersionRef
from mendel.values.directory_trees import file_digest, tree_digest

_DATA = "data"
_REFERENCE = "mendel/reference.json"
_ABANDONED = timedelta(hours=1)


class Registering(RegistryContext):
    """The part of the registry that makes versions."""

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
        descriptor = _require_flavor(read_descriptor(tree), request.flavor)
        pending = PendingRegistration(
            model=request.model,
            idempotency_key=request.idempotency_key or self._new_id(),
            artifact_digest=tree_digest(tree, exclude=(_DATA,)),
            data_digest=_data_digest(tree, data),
            requested_at=self._clock(),
        )
        known = self._unit.write(lambda tx: _begin(tx.store(RegistryStore), request, pending))
        if known is not None:
            return known
        with self._serial[request.model]:
            published = self._artifacts.publish(_publication(request, pending), tree, data=data)
        record = _record(
            request, pending, descriptor, published, reference_digest=_reference_digest(tree), now=self._clock()
        )
        registered = self._unit.write(lambda tx: self._end(tx, pending, record))
        if registered.uuid != published.uuid:  # another process ended the same registration first
            self._artifacts.discard(published.key, uuid=published.uuid)
        return registered

    def registered(self, ref: VersionRef) -> Registered:
        """
        What registering *ref* answered.

        Raises:
            VersionNotFound: There is no such version.
        """
        record = self._read(lambda store: require_version(store, ref))
        where = self._artifacts.tree(record.uuid)
        return Registered.of(record, artifact_path=str(where), mlflow_version=self._artifacts.mlflow_version)

    def sweep_pending(self, *, older_than: timedelta = _ABANDONED) -> int:
        """Delete what registrations begun before that and never ended have left behind; gives their number."""
        before = self._clock() - older_than
        swept = self._unit.write(lambda tx: _mark_swept(tx.store(RegistryStore), before))
        for pending in swept:
            self._artifacts.discard(_artifact_key(pending))
            self._forget(pending)
        return len(swept)

    def _forget(self, pending: PendingRegistration) -> None:
        self._unit.write(lambda tx: tx.store(RegistryStore).drop_pending(pending.model, pending.idempotency_key))

    def _end(self, tx: Transaction, pending: PendingRegistration, record: VersionRecord) -> VersionRecord:
        store = tx.store(RegistryStore)
        known = store.version_by_key(pending.model, pending.idempotency_key)
        if known is not None:
            return known
        standing = store.pending(pending.model, pending.idempotency_key)
        if standing is None or standing.swept:
            raise Conflict(
                f"A registration of {pending.model} took so long that it was swept.", remedy="Register again."
            )
        store.drop_pending(pending.model, pending.idempotency_key)
        store.add_version(record)
        now = record.registered_at
        tx.append(
            self._event(
                "model.registered",
                str(record.ref),
                record.registered_by,
                now,
                **described(record, now),
                uuid=record.uuid,
                stage=record.stage,
                artifact_digest=record.artifact_digest,
                release_tag=record.release_tag,
                image_digest=None if record.image is None else record.image.digest,
                parent=None if record.parent is None else str(record.parent),
            )
        )
        return record


def _require_flavor(descriptor: Descriptor, flavor: str) -> Descriptor:
    if flavor not in descriptor.flavors:
        raise InvalidInput(
            f"The artefact has no flavour {flavor!r}.", remedy=f"Its MLmodel names {', '.join(descriptor.flavors)}."
        )
    return descriptor


def _data_digest(tree: Path, data: Path | None) -> Digest | None:
    inside = tree / _DATA
    if data is not None and inside.exists():
        raise InvalidInput(f"{tree} holds {_DATA}/ already.", remedy="Leave it out, or pass no data.")
    where = inside if data is None else data
    return tree_digest(where) if data is not None or where.is_dir() else None


def _reference_digest(tree: Path) -> Digest | None:
    path = tree / _REFERENCE
    return file_digest(path) if path.is_file() else None


def _begin(store: RegistryStore, request: Registration, pending: PendingRegistration) -> VersionRecord | None:
    for named in (request.parent, request.improvement.baseline if request.improvement else None):
        if named is not None:
            require_version(store, named)
    model, key = pending.model, pending.idempotency_key
    standing = store.version_by_key(model, key) or store.pending(model, key)
    if standing is None:
        store.put_pending(pending)
        return None
    if (standing.artifact_digest, standing.data_digest) != (pending.artifact_digest, pending.data_digest):
        raise AlreadyExists(
            f"The idempotency key {key!r} of {model} stands for another artefact.",
            remedy="Use a new key for new content.",
        )
    return standing if isinstance(standing, VersionRecord) else None


def _mark_swept(store: RegistryStore, before: datetime) -> tuple[PendingRegistration, ...]:
    found = store.pending_before(before)
    for pending in found:
        store.put_pending(
            PendingRegistration(
                model=pending.model,
                idempotency_key=pending.idempotency_key,
                artifact_digest=pending.artifact_digest,
                data_digest=pending.data_digest,
                requested_at=pending.requested_at,
                swept=True,
            )
        )
    return found


def _artifact_key(pending: PendingRegistration) -> str:
    return f"{pending.model}/{pending.idempotency_key}"


def _publication(request: Registration, pending: PendingRegistration) -> Publication:
    return Publication(
        key=_artifact_key(pending),
        model=request.model,
        stage=request.stage,
        metrics=request.metrics,
        tags=request.tags,
    )


def _record(
    request: Registration,
    pending: PendingRegistration,
    descriptor: Descriptor,
    published: Published,
    *,
    reference_digest: Digest | None,
    now: datetime,
) -> VersionRecord:
    return VersionRecord(
        ref=VersionRef(request.model, published.number),
        uuid=published.uuid,
        run_id=published.run_id,
        stage=request.stage,
        flavor=request.flavor,
        flavors=descriptor.flavors,
        task=request.task,
        signature=request.signature or descriptor.signature,
        artifact_digest=pending.artifact_digest,
        data_digest=pending.data_digest,
        reference_digest=reference_digest,
        registered_at=now,
        registered_by=request.by,
        idempotency_key=pending.idempotency_key,
        code_digest=request.code_digest,
        lock_digest=request.lock_digest,
        release_tag=request.release_tag or (None if request.image is None else request.image.release_tag),
        image=request.image,
        project=request.project,
        parent=request.parent,
        improvement=request.improvement,
        training_fingerprint=request.training_fingerprint,
        metrics=request.metrics,
        metadata=request.metadata,
        tags=request.tags,
        description=request.description,
        owner=request.owner,
        team=request.team,
        framework=request.framework,
        provenance=request.provenance,
        expectations=request.expectations,
        governance=request.governance,
    )
