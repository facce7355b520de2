"""The requests that the methods of the client make from names of models and versions."""

from __future__ import annotations

from mendel.operations.requests import OneModel, OneVersion
from mendel.values import ModelName, VersionRef


def version_request(ref: str | VersionRef) -> OneVersion:
    """Make the request for the version *ref*, such as ``credit@3``."""
    version = ref if isinstance(ref, VersionRef) else VersionRef.parse(ref)
    return OneVersion(model=version.model, number=version.number)


def model_request(model: str) -> OneModel:
    """Make the request for *model*."""
    return OneModel(model=ModelName(model))


def optional_name(model: str | None) -> ModelName | None:
    """Check the name of a model; None stands for all models."""
    return None if model is None else ModelName(model)


def if_match(generation: int | None) -> str | None:
    """Make the header ``If-Match`` from the expected generation of a deployment; None sends no header."""
    return None if generation is None else f'"{generation}"'
