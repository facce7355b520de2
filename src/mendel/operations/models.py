"""Operations that register and read models and their versions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from mendel.errors import (
    AlreadyExists,
    ArtifactNotFound,
    Conflict,
    Forbidden,
    InvalidValue,
    ModelNotFound,
    VersionNotFound,
)
from mendel.operations.hub_parts import Call
from mendel.operations.operation import BodyKind, operation
from mendel.operations.project_roots import within_roots
from mendel.operations.requests import Nothing, OneModel, OneVersion
from mendel.registry import LineageEntry, Registered, Registration, VersionFault, VersionImage, VersionRecord
from mendel.values import Digest, ModelName, Scope, VersionUuid
from mendel.values.directory_trees import pack_tree, unpack_tree
from mendel.views import ModelView, card_of, render_card

FORM = BodyKind(max_bytes=16 << 30, media_types={"multipart/form-data": None})
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """
    The request to register a new version.

    Attributes:
        registration: The facts about the version; its model must be that of the path.
        artifact: A tar archive of the artefact.
        data: A tar archive of files that are stored with the version but not served; None without such files.
        will_approve: True registers nothing unless the caller's key may also approve the version.
    """

    model: ModelName
    registration: Registration
    artifact: BinaryIO
    data: BinaryIO | None = None
    will_approve: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordImage(OneVersion):
    """The request to record the container image that contains a version."""

    body: VersionImage


@dataclass(frozen=True, slots=True, kw_only=True)
class OneUuid:
    """The request for the version with a uuid."""

    uuid: VersionUuid


@dataclass(frozen=True, slots=True, kw_only=True)
class OneDigest:
    """The request for the image or the artefact with a digest."""

    digest: Digest


@operation("GET", "/models", scope=Scope.READ)
def models(call: Call, _: Nothing) -> tuple[ModelName, ...]:
    """List every model that has a version."""
    return call.hub.registry.versions.models()


@operation("GET", "/models/{model}", scope=Scope.READ, errors=(ModelNotFound,))
def model(call: Call, request: OneModel) -> ModelView:
    """Show a model: its versions, deployment, health, policy, incidents and runs."""
    found = call.read(lambda views: views.model(request.model, call.hub.clock(), presence=call.presence))
    return replace(found, versions=tuple(record.public for record in found.versions))


@operation("GET", "/models/{model}/versions", scope=Scope.READ, errors=(ModelNotFound,))
def versions(call: Call, request: OneModel) -> tuple[VersionRecord, ...]:
    """List the versions of a model, oldest first."""
    return tuple(record.public for record in call.hub.registry.versions.of(request.model))


@operation("GET", "/models/{model}/versions/{number}", scope=Scope.READ, errors=(VersionNotFound,))
def version(call: Call, request: OneVersion) -> VersionRecord:
    """Show a version."""
    return call.hub.registry.versions.get(request.ref).public


@operation("GET", "/models/{model}/versions/{number}/faults", scope=Scope.DEPLOY, errors=(VersionNotFound,))
def version_faults(call: Call, request: OneVersion) -> tuple[VersionFault, ...]:
    """Show why servers cannot load a version, and how its answers differ, with the values of the probe rows."""
    return call.hub.registry.performance.faults(request.ref)


@operation("GET", "/versions/by-uuid/{uuid}", scope=Scope.READ, errors=(VersionNotFound,))
def get_model_by_uuid(call: Call, request: OneUuid) -> VersionRecord:
    """Show the version with a uuid."""
    return call.hub.registry.versions.by_uuid(request.uuid).public


@operation("GET", "/versions/by-image/{digest}", scope=Scope.READ)
def versions_by_image(call: Call, request: OneDigest) -> tuple[VersionRecord, ...]:
    """List the versions whose recorded image has a digest."""
    return tuple(record.public for record in call.hub.registry.versions.by_image(request.digest))


@operation("GET", "/models/{model}/lineage", scope=Scope.READ, errors=(ModelNotFound,))
def lineage(call: Call, request: OneModel) -> tuple[LineageEntry, ...]:
    """List the versions of a model with their contributors and the total improvement up to each version."""
    return call.hub.registry.versions.lineage(request.model)


@operation(
    "GET",
    "/models/{model}/versions/{number}/card",
    scope=Scope.READ,
    errors=(VersionNotFound,),
    media_type="text/markdown",
)
def card(call: Call, request: OneVersion) -> str:
    """Render the model card of a version as Markdown."""
    hub = call.hub
    return render_card(card_of(hub.unit, hub.registry, request.ref, hub.clock()))


@operation(
    "POST",
    "/models/{model}/versions",
    scope=Scope.REGISTER,
    errors=(VersionNotFound, AlreadyExists, Conflict),
    status=201,
    body=FORM,
)
def register(call: Call, request: Register) -> Registered:
    """Register an artefact directory as a new version."""
    if request.registration.model != request.model:
        raise InvalidValue(
            f"The registration is for model {request.registration.model!r}, but the path names {request.model!r}."
        )
    improvement = request.registration.improvement
    if improvement is not None and not improvement.claimed:
        raise InvalidValue(
            "A registration cannot state that its delta metrics were recomputed.", remedy="Leave out 'claimed'."
        )
    if request.will_approve and not call.caller.may(Scope.APPROVE):
        raise Forbidden(
            f"The API key lacks the scope '{Scope.APPROVE}', so nothing was registered.",
            remedy="Register without governance, and let a key with that scope approve the version.",
        )
    wish = within_roots(request.registration, call.hub.project_roots, caller=call.caller)
    versions = call.hub.registry.versions
    with tempfile.TemporaryDirectory(dir=call.hub.scratch) as scratch:
        tree, data = Path(scratch) / "artifact", Path(scratch) / "data"
        unpack_tree(request.artifact, tree)
        if request.data is not None:
            unpack_tree(request.data, data)
        record = versions.register(wish, tree, data=None if request.data is None else data, by=call.by)
    return versions.registered(record.ref)


@operation("PUT", "/models/{model}/versions/{number}/image", scope=Scope.REGISTER, errors=(VersionNotFound, Conflict))
def record_image(call: Call, request: RecordImage) -> VersionRecord:
    """Record the container image that contains a version."""
    return call.hub.registry.versions.record_image(request.ref, request.body, by=call.by).public


@operation("GET", "/artifacts/{digest}", scope=Scope.SERVE, errors=(ArtifactNotFound,), media_type="application/x-tar")
def download(call: Call, request: OneDigest) -> Iterator[bytes]:
    """Download the artefact with a digest as a tar archive."""
    return _packed(call.hub.registry.versions.tree_by_digest(request.digest))


def _packed(tree: Path) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as file:
        pack_tree(tree, file, exclude=("data",))
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
