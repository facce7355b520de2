"""Look up rows that must exist, and give defaults for rows that may be missing."""

from __future__ import annotations

from mendel.errors import ModelNotFound, VersionNotFound
from mendel.registry.policies import PolicyDocument
from mendel.registry.ports import RegistryStore
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, VersionRef


def require_version(store: RegistryStore, ref: VersionRef) -> VersionRecord:
    """
    Find the version of *ref*.

    Raises:
        VersionNotFound: The version does not exist; the message says which versions do.
    """
    found = store.version(ref)
    if found is None:
        numbers = [record.number for record in store.versions(ref.model)]
        known = (
            f"The model {ref.model} has the versions 1 to {numbers[-1]}."
            if numbers
            else f"The model {ref.model!r} does not exist."
        )
        raise VersionNotFound(f"The version {ref} does not exist.", remedy=known)
    return found


def require_model(store: RegistryStore, model: ModelName) -> None:
    """
    Check that *model* has a version.

    Raises:
        ModelNotFound: *model* has no version.
    """
    if store.deployment(model) is None and model not in store.models():
        raise unknown_model(model)


def unknown_model(model: ModelName) -> ModelNotFound:
    """Make the error for a model without versions."""
    return ModelNotFound(
        f"The model {model!r} does not exist.",
        remedy="List the models with 'mendel models list', or register a version of this model.",
    )


def current_policy(store: RegistryStore, model: ModelName) -> PolicyDocument:
    """Find the newest policy of *model*, or the default policy."""
    written = store.policies(model)
    return written[-1] if written else PolicyDocument(model=model)
