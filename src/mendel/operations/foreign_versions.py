"""Operations on versions that were registered in MLflow without Mendel."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.errors import ArtifactNotFound, Unsupported, VersionNotFound
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.operations.requests import OneModel, OneVersion
from mendel.registry import ForeignVersion, VersionRecord
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt(OneVersion):
    """
    The request to register a foreign version under its own number.

    Attributes:
        flavor: The flavour for loading; None takes the only one of its files beside ``python_function``.
        task: ``classification`` or ``regression``; None takes what its files say.
    """

    flavor: str | None = None
    task: str | None = None


@operation("GET", "/models/{model}/foreign", scope=Scope.READ)
def foreign_versions(call: Call, request: OneModel) -> tuple[ForeignVersion, ...]:
    """List the versions of a model that were registered in MLflow without Mendel."""
    return call.hub.registry.foreign.of(request.model)


@operation(
    "POST",
    "/models/{model}/versions/{number}/adopt",
    scope=Scope.REGISTER,
    errors=(VersionNotFound, ArtifactNotFound, Unsupported),
)
def adopt(call: Call, request: Adopt) -> VersionRecord:
    """Register a foreign version in development; with an API key, only files below ``hub.project_roots``."""
    roots = None if call.caller.is_local else call.hub.project_roots
    foreign = call.hub.registry.foreign
    return foreign.adopt(request.ref, by=call.by, flavor=request.flavor, task=request.task, roots=roots).public
