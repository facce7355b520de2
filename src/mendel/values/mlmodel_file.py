"""Read the ``MLmodel`` file of an artefact, MLflow's description of a model; no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mendel.errors import InvalidInput
from mendel.values.json_codec import check_text
from mendel.values.signatures import Signature

MLMODEL: Final = "MLmodel"
"""The name of the file."""

_MAX_BYTES: Final = 4 << 20
_OF_PROJECT: Final = "mendel"
_LIBRARIES: Final = {
    ("sklearn", "sklearn_version"): "scikit-learn",
    ("xgboost", "xgb_version"): "xgboost",
    ("lightgbm", "lgb_version"): "lightgbm",
    ("catboost", "catboost_version"): "catboost",
    ("pytorch", "pytorch_version"): "torch",
    ("python_function", "cloudpickle_version"): "cloudpickle",
    ("python_function", "python_version"): "python",
}
"""The distribution whose version each key of a flavour's section contains; ``python`` is the interpreter."""
_MISREAD: Final = (ValueError, OverflowError, AttributeError, RecursionError)
"""Errors that PyYAML raises besides its own: for impossible dates and numbers, wrong tags and deep nesting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlmodel:
    """
    The content of an ``MLmodel`` file.

    Attributes:
        flavors: The section of each flavour by the flavour's name, unchanged.
        signature: The model signature; None when the file has none with inputs.
        task: ``classification`` or ``regression``; None when the file has none, as in a file of MLflow alone.
    """

    flavors: Mapping[str, Mapping[str, Any]]
    signature: Signature | None = None
    task: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the flavours, sorted."""
        return tuple(sorted(self.flavors))

    @property
    def classifier(self) -> str | None:
        """The classifier of the project whose code the artefact needs; None for a model without a project."""
        return _text(self.flavors.get(_OF_PROJECT), "classifier")

    @property
    def carries_project(self) -> bool:
        """Whether the artefact contains the files of the project's release, so that no server must host the project."""
        return bool(self.flavors.get(_OF_PROJECT, {}).get("project"))

    @property
    def locked(self) -> bool:
        """Whether the model was trained in the environment of the lock that the artefact contains."""
        return self.carries_project and bool(self.flavors[_OF_PROJECT].get("locked"))

    @property
    def libraries(self) -> dict[str, str]:
        """The versions of Python (key ``python``) and of the libraries that wrote the artefact, by distribution."""
        return {
            name: check_text(str(number))
            for (flavor, key), name in _LIBRARIES.items()
            if (number := self.flavors.get(flavor, {}).get(key)) is not None
        }


def read_mlmodel_file(tree: Path) -> Mlmodel:
    """
    Read the ``MLmodel`` file of the artefact *tree*.

    Raises:
        InvalidInput: The file is missing or is not an ``MLmodel`` file.
    """
    path = tree / MLMODEL
    if not path.is_file() or path.is_symlink():
        raise InvalidInput(
            f"The artefact {tree} has no {MLMODEL} file.",
            remedy="Save the model with MLflow or Mendel, then register again.",
        )
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidInput(f"The file {path} is larger than the limit of {_MAX_BYTES >> 20} MiB.")
        document: Any = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"The file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, *_MISREAD) as error:
        raise InvalidInput(f"The file {path} is not YAML: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise InvalidInput(
            f"The file {path} has no mapping 'flavors'.", remedy="Save the model again with MLflow or Mendel."
        )
    given = document.get("signature")
    if given is not None and not isinstance(given, dict):
        raise InvalidInput(f"The key 'signature' in {path} is not a mapping.")
    return Mlmodel(
        flavors={
            check_text(str(name)): section if isinstance(section, dict) else {}
            for name, section in document["flavors"].items()
        },
        signature=Signature.from_mlflow(given) if given and given.get("inputs") else None,
        task=_text(document.get("metadata"), "task"),
    )


def _text(section: Any, key: str) -> str | None:
    value = section.get(key) if isinstance(section, dict) else None
    return check_text(value) if isinstance(value, str) else None
