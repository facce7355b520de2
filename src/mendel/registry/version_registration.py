"""The steps of a registration: first a row, then the artefact, then version and event in one transaction."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from mendel.errors import AlreadyExists, InvalidInput, MendelError
from mendel.registry.lookups import require_version
from mendel.registry.ports import Publication, Published, RegistryStore
from mendel.registry.registration import PendingRegistration, Registration
from mendel.registry.version_records import VersionRecord
from mendel.values import Digest, VersionRef, from_json, read_json, to_json
from mendel.values.directory_trees import file_digest, tree_digest
from mendel.values.mlmodel_file import Mlmodel
from mendel.values.parity import PARITY_FILE, ParityReport

DATA_DIRECTORY = "data"
_REFERENCE = "mendel/reference.json"
_COMPARED = (
    *("flavor", "task", "metrics", "tags", "description", "owner", "team", "framework", "expectations"),
    *("parent", "improvement"),
)
"""Beside the files, what two registrations with one idempotency key must have alike."""


def require_flavor(mlmodel: Mlmodel, flavor: str) -> Mlmodel:
    """
    Check that *mlmodel* contains *flavor*, and return it.

    Raises:
        InvalidInput: The ``MLmodel`` file has no such flavour.
    """
    if flavor not in mlmodel.flavors:
        raise InvalidInput(
            f"The artefact has no flavour {flavor!r}.",
            remedy=f"Choose a flavour from the artefact's MLmodel file: {', '.join(mlmodel.names)}.",
        )
    return mlmodel


def data_digest_of(tree: Path, data: Path | None) -> Digest | None:
    """
    Hash the data directory of the version; None without data.

    Raises:
        InvalidInput: *data* is given although *tree* contains ``data/``.
    """
    inside = tree / DATA_DIRECTORY
    if data is not None and inside.exists():
        raise InvalidInput(
            f"The artefact {tree} already contains the directory {DATA_DIRECTORY}/.",
            remedy="Remove the directory, or register without --data.",
        )
    where = inside if data is None else data
    return tree_digest(where) if data is not None or where.is_dir() else None


def reference_digest_of(tree: Path) -> Digest | None:
    """Hash the drift reference in *tree*; None if *tree* has no drift reference."""
    path = tree / _REFERENCE
    return file_digest(path) if path.is_file() else None


def parity_of(tree: Path) -> ParityReport | None:
    """
    Read the result of the parity check in *tree*; None if *tree* has no such result.

    Raises:
        InvalidInput: The file cannot be read.
    """
    path = tree / PARITY_FILE
    if not path.is_file():
        return None
    try:
        return from_json(path.read_bytes(), ParityReport)
    except MendelError as error:
        raise InvalidInput(f"{PARITY_FILE} of the artefact cannot be read: {error}") from error


def begin_registration(
    store: RegistryStore, request: Registration, pending: PendingRegistration
) -> VersionRecord | None:
    """
    Store *pending*; gives the version if the same registration was already completed, else None.

    Raises:
        VersionNotFound: The parent or the baseline does not exist.
        AlreadyExists: The idempotency key was used for other content.
    """
    for named in (request.parent, request.improvement.baseline if request.improvement else None):
        if named is not None:
            require_version(store, named)
    model, key = pending.model, pending.idempotency_key
    standing = store.version_by_key(model, key) or store.pending(model, key)
    if standing is None:
        store.put_pending(pending)
        return None
    if differing := _differences(standing, request, pending):
        raise AlreadyExists(
            f"The idempotency key {key!r} of {model} was used for a registration with another {', '.join(differing)}.",
            remedy="Use a new key for new content.",
        )
    return standing if isinstance(standing, VersionRecord) else None


def _differences(
    standing: VersionRecord | PendingRegistration, request: Registration, pending: PendingRegistration
) -> tuple[str, ...]:
    """Name the fields in which *request* differs from the registration that used the same idempotency key."""
    found = {
        "artefact": standing.artifact_digest != pending.artifact_digest,
        "data": standing.data_digest != pending.data_digest,
    }
    if isinstance(standing, VersionRecord):
        found |= {name.replace("_", " "): getattr(standing, name) != getattr(request, name) for name in _COMPARED}
        found["metadata"] = _without_time(standing.metadata) != _without_time(request.metadata)
    return tuple(name for name, differs in found.items() if differs)


def _without_time(metadata: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in metadata.items() if key != "registration_time"}
    tree: dict[str, Any] = read_json(to_json(kept))
    return tree


def mark_swept(store: RegistryStore, before: datetime) -> tuple[PendingRegistration, ...]:
    """
    Mark every registration requested before *before* so that it can no longer be completed, and give the marked ones.
    """
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


def artifact_key(pending: PendingRegistration) -> str:
    """Make the key under which the artefact store publishes the files of *pending*."""
    return f"{pending.model}/{pending.idempotency_key}"


def publication_of(request: Registration, pending: PendingRegistration) -> Publication:
    """Make the metadata for publishing in the artefact store."""
    return Publication(
        key=artifact_key(pending),
        model=request.model,
        stage=request.stage,
        metrics=request.metrics,
        tags=request.tags,
    )


def version_record(
    request: Registration,
    pending: PendingRegistration,
    mlmodel: Mlmodel,
    published: Published,
    *,
    reference_digest: Digest | None,
    parity: ParityReport | None,
    by: str,
    now: datetime,
) -> VersionRecord:
    """Make the record of the version that *request* registers."""
    return VersionRecord(
        ref=VersionRef(request.model, published.number),
        uuid=published.uuid,
        run_id=published.run_id,
        stage=request.stage,
        flavor=request.flavor,
        flavors=mlmodel.names,
        libraries=mlmodel.libraries,
        task=request.task,
        signature=request.signature or mlmodel.signature,
        artifact_digest=pending.artifact_digest,
        data_digest=pending.data_digest,
        reference_digest=reference_digest,
        registered_at=now,
        registered_by=by,
        idempotency_key=pending.idempotency_key,
        code_digest=request.code_digest,
        lock_digest=request.lock_digest,
        carries_code=mlmodel.carries_project,
        locked=mlmodel.locked,
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
        parity=parity,
    )
