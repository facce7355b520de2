"""Functions that several flavours share: import a library, check files, and describe a model with ``predict``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mendel.errors import InvalidValue, ModelNotLoadable
from mendel.serving.model_faults import words_of
from mendel.serving.model_program import classes_of
from mendel.serving.packed_code import CODE
from mendel.serving.predictor import Predictor, PredictorDescriptor, classes_from


def required(module: str, *, extra: str) -> Any:
    """
    Import *module*, which a flavour needs.

    Raises:
        ModelNotLoadable: The module is not installed; the remedy names the extra of Mendel.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelNotLoadable(
            f"The model needs the package {module.partition('.')[0]!r}, which cannot be imported here.",
            detail=words_of(error),
            remedy=f'Install it in the environment of this server: pip install "mendel[{extra}]".',
        ) from error


def is_of(model: object, package: str, *names: str) -> bool:
    """Tell whether the class of *model* is one of the classes *names* of *package*; subclasses do not count."""
    kind = type(model)
    return kind.__module__.partition(".")[0] == package and (not names or kind.__name__ in names)


def require_empty(directory: Path) -> None:
    """
    Check that *directory* is empty or contains only packed code.

    Raises:
        InvalidValue: The directory contains other files.
    """
    if any(path.name != CODE for path in directory.iterdir()):
        raise InvalidValue(f"Directory {directory} is not empty.", remedy="Give an empty directory.")


def file_of(directory: Path, section: Mapping[str, Any], key: str, default: str) -> Path:
    """
    Give the file that *section* names under *key*.

    Raises:
        ModelNotLoadable: The file is outside *directory*.
    """
    path = (directory / str(section.get(key) or default)).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise ModelNotLoadable("The MLmodel of the artefact names a model file outside the artefact's directory.")
    return path


def predictor_of(model: Any, *, named: object | None = None) -> Predictor:
    """
    Give a predictor of *model*.

    Args:
        named: The object whose class appears in the metadata of answers; None means *model*.
    """
    kind = type(model if named is None else named)
    descriptor = PredictorDescriptor(
        class_name=kind.__name__,
        module=kind.__module__,
        classes=classes_from(classes_of(model)),
        dataframe=None,
        proba=callable(getattr(model, "predict_proba", None)),
    )
    return Predictor(model, descriptor)
