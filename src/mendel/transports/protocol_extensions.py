"""What REST and gRPC have in common of the extensions to the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mendel.errors import InvalidRequest
from mendel.serving import Kernel

_PATH: Final = "model_path"


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


def path_to_load(parameters: Mapping[str, object]) -> str | None:
    """
    Give the path of the model in the *parameters* of a load request; None loads the deployed versions.

    Raises:
        InvalidRequest: There is another parameter, such as Triton's ``config`` or a file of a model, or the path is not
            text.

    >>> path_to_load({"model_path": "/models/iris"}), path_to_load({})
    ('/models/iris', None)
    """
    others = sorted(parameters.keys() - {_PATH})
    if others:
        raise InvalidRequest(
            f"The load request has the parameter {others[0]!r}, but models are loaded as they were written.",
            remedy=f"Leave the parameter out, or register a version of the model that has what it says; {_PATH} may "
            "name a directory of serving.model_roots.",
        )
    path = parameters.get(_PATH)
    if not isinstance(path, str | None):
        raise InvalidRequest(f"The parameter {_PATH} of the load request is not text.")
    return path or None


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
