"""Translate MLflow's errors into Mendel's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mendel.errors import ArtifactNotFound, InvalidInput, StoreUnavailable

ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
EXISTS = "RESOURCE_ALREADY_EXISTS"
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
_REMEDY = "Free the disk if it is full, and check the permissions of mlflow.db in the data directory; then try again."


def first_line(error: object) -> str:
    """Give the first line of an error's message; SQLAlchemy adds the statement and a link in further lines."""
    return next(iter(str(error).splitlines()), "")


@contextmanager
def translated() -> Iterator[None]:
    """
    Turn MLflow's errors into Mendel's.

    Raises:
        ArtifactNotFound: MLflow does not know the model.
        InvalidInput: MLflow refuses a name, a tag or a metric.
        StoreUnavailable: MLflow or its database reports any other error, or the artefacts cannot be read or written.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds to import
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - MLflow passes on some errors of its database

    try:
        yield
    except MlflowException as error:
        if error.error_code in ABSENT:
            raise ArtifactNotFound(f"MLflow does not have the requested version or model: {error.message}") from error
        if error.error_code in _REFUSED:
            raise InvalidInput(f"MLflow refuses a name, tag or metric: {error.message}") from error
        raise StoreUnavailable(f"MLflow failed: {first_line(error.message)}", remedy=_REMEDY) from error
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"MLflow's database failed: {first_line(error)}", remedy=_REMEDY) from error
    except OSError as error:
        raise StoreUnavailable(f"MLflow's artefact directory cannot be read or written: {error}.") from error
