"""Rows that must exist, and what is taken where none was written."""

from __future__ import annotations

from mendel.errors import ModelNotFound, VersionNotFound
from mendel.registry.policies import PolicyDocument
from mendel.registry.ports import RegistryStore
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, VersionRef


def require_version(store: RegistryStore, ref: VersionRef) -> VersionRecord:
    """
    The version of *ref*.

    Raises:
        VersionNotFound: There is none; says which there are.
    """
    found = store.version(ref)
    if found is None:
        numbers = [record.number for record in store.versions(ref.model)]
        known = f"{ref.model} has 1 to {numbers[-1]}." if numbers else f"There is no model {ref.model!r}."
        raise VersionNotFound(f"There is no version {ref}.", remedy=known)
    return found


def require_model(store: RegistryStore, model: ModelName) -> None:
    """
    Let only models pass that have a version; what is deployed has one.

    Raises:
        ModelNotFound: *model* has none.
    """
    if store.deployment(model) is None and model not in store.models():
        raise unknown_model(model)


def unknown_model(model: ModelName) -> ModelNotFound:
    """The error that says that *model* has no version."""
    return ModelNotFound(
        f"There is no model {model!r}.", remedy="Register a version of it, or look at the list of models."
    )


def current_policy(store: RegistryStore, model: ModelName) -> PolicyDocument:
    """The newest policy of *model*, or the default."""
    written = store.policies(model)
    return written[-1] if written else PolicyDocument(model=model)
