"""What REST and gRPC have in common of the extensions to the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mendel.serving import Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryEntry:
    """
    A loaded version, or a model without a loaded version.

    ``reason`` contains the roles of a loaded version, or the error of the failed load.
    """

    name: str
    version: str
    state: str
    reason: str


def protocol_extensions(kernel: Kernel) -> tuple[str, ...]:
    """Give the extensions that a server announces over REST and gRPC."""
    repository = ("model_repository",) if kernel.policy.repository_control == "explicit" else ()
    return ("statistics", *repository)


def repository_entries(kernel: Kernel) -> Iterator[RepositoryEntry]:
    """List the loaded versions, and the models without a loaded version."""
    for model in kernel.status().models:
        for version in model.versions:
            yield RepositoryEntry(
                name=model.model, version=str(version.version or ""), state="READY", reason=", ".join(version.roles)
            )
        if not model.versions:
            loading = not model.unloaded and model.error is None
            reason = "unloaded" if model.unloaded else model.error or ""
            yield RepositoryEntry(
                name=model.model, version="", state="LOADING" if loading else "UNAVAILABLE", reason=reason
            )
