"""Translate MLflow's errors into Mendel's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mendel.errors import ArtifactNotFound, InvalidInput, StoreUnavailable

ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
EXISTS = "RESOURCE_ALREADY_EXISTS"
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})


@contextmanager
def translated() -> Iterator[None]:
    """
    Turn MLflow's errors into Mendel's.

    Raises:
        ArtifactNotFound: MLflow does not know the model.
        InvalidInput: MLflow refuses a name, a tag or a metric.
        StoreUnavailable: MLflow reports any other error, or the artefacts cannot be read or written (OSError).
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds to import

    try:
        yield
    except MlflowException as error:
        if error.error_code in ABSENT:
            raise ArtifactNotFound(f"MLflow does not have the requested version or model: {error.message}") from error
        if error.error_code in _REFUSED:
            raise InvalidInput(f"MLflow refuses a name, tag or metric: {error.message}") from error
        raise StoreUnavailable(f"MLflow failed: {error.message}") from error
    except OSError as error:
        raise StoreUnavailable(f"MLflow's artefact directory cannot be read or written: {error}.") from error
