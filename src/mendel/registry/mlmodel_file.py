"""Read the ``MLmodel`` file of an artefact as text; no model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mendel.errors import InvalidInput
from mendel.values import Signature, check_text

_FILE = "MLmodel"
_MAX_BYTES = 4 << 20
_LIBRARIES = {
    ("sklearn", "sklearn_version"): "scikit-learn",
    ("xgboost", "xgb_version"): "xgboost",
    ("lightgbm", "lgb_version"): "lightgbm",
    ("catboost", "catboost_version"): "catboost",
    ("pytorch", "pytorch_version"): "torch",
    ("python_function", "python_version"): "python",
}
_MISREAD = (ValueError, OverflowError, AttributeError, RecursionError)
"""Errors that PyYAML raises besides its own: for impossible dates and numbers, wrong tags and deep nesting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """
    The contents of an ``MLmodel`` file that the registry needs.

    Attributes:
        flavors: The names of the flavours, sorted.
        signature: The signature; None if the file has none.
        task: The task as written by Mendel; None in a file written by MLflow alone.
        classifier: The classifier of the project whose code the artefact needs; None for a model without a project.
        libraries: The versions of the libraries that wrote the artefact, by distribution; of Python as ``python``.
    """

    flavors: tuple[str, ...]
    signature: Signature | None
    task: str | None = None
    classifier: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)


def read_descriptor(tree: Path) -> Descriptor:
    """
    Read the ``MLmodel`` file of the artefact *tree*.

    Raises:
        InvalidInput: The file is missing or is not an ``MLmodel`` file.
    """
    path = tree / _FILE
    if not path.is_file() or path.is_symlink():
        raise InvalidInput(
            f"The artefact {tree} has no {_FILE} file.",
            remedy="Save the model with MLflow or Mendel, then register again.",
        )
    if path.stat().st_size > _MAX_BYTES:
        raise InvalidInput(f"The file {path} is larger than the limit of {_MAX_BYTES >> 20} MiB.")
    try:
        document: Any = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, *_MISREAD) as error:
        raise InvalidInput(f"The file {path} is not YAML: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise InvalidInput(
            f"The file {path} has no mapping 'flavors'.", remedy="Save the model again with MLflow or Mendel."
        )
    given = document.get("signature")
    if given is not None and not isinstance(given, dict):
        raise InvalidInput(f"The key 'signature' in {path} is not a mapping.")
    return Descriptor(
        flavors=tuple(sorted(check_text(str(name)) for name in document["flavors"])),
        signature=Signature.from_mlflow(given) if given and given.get("inputs") else None,
        task=_text(document.get("metadata"), "task"),
        classifier=_text(document["flavors"].get("mendel"), "classifier"),
        libraries={
            name: number
            for (flavor, key), name in _LIBRARIES.items()
            if (number := _text(document["flavors"].get(flavor), key)) is not None
        },
    )


def _text(section: Any, key: str) -> str | None:
    value = section.get(key) if isinstance(section, dict) else None
    return check_text(value) if isinstance(value, str) else None
