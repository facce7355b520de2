"""Read and write the ``MLmodel`` file of an artefact, MLflow's description of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mendel.errors import ModelNotLoadable
from mendel.values import Signature

INPUT_EXAMPLE: Final = "input_example.json"
"""The file with the input example in an artefact, in MLflow's format."""

_FILE: Final = "MLmodel"
_FORMAT: Final = "3.17.2"
"""The version of MLflow whose loaders read what is written here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlmodel:
    """
    The content of an ``MLmodel`` file.

    Attributes:
        flavors: The section of each flavour by the flavour's name, unchanged.
        signature: The model signature; None when the file has none.
        task: ``classification`` or ``regression``; None when the file has none.
    """

    flavors: Mapping[str, Mapping[str, Any]]
    signature: Signature | None = None
    task: str | None = None


def read_mlmodel(directory: Path) -> Mlmodel:
    """
    Read the ``MLmodel`` of the artefact in *directory*.

    Raises:
        ModelNotLoadable: The file does not exist, or is not an ``MLmodel`` file.
    """
    try:
        document = yaml.safe_load((directory / _FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelNotLoadable(f"The file {_FILE} of the artefact cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise ModelNotLoadable(f"The file {_FILE} of the artefact is not a YAML mapping.")
    flavors, signature, metadata = (document.get(section) for section in ("flavors", "signature", "metadata"))
    flavors = flavors or {}
    if not isinstance(flavors, dict):
        raise ModelNotLoadable(f"The key 'flavors' in the file {_FILE} of the artefact is not a mapping.")
    return Mlmodel(
        flavors={str(name): section or {} for name, section in flavors.items()},
        signature=Signature.from_mlflow(signature) if isinstance(signature, dict) else None,
        task=str(metadata["task"]) if isinstance(metadata, dict) and "task" in metadata else None,
    )


def write_mlmodel(directory: Path, mlmodel: Mlmodel, *, task: str | None = None) -> None:
    """Write *mlmodel* into *directory*; mention the input example if *directory* contains its file."""
    flavors = {name: dict(section) for name, section in mlmodel.flavors.items()}
    document: dict[str, Any] = {"flavors": flavors, "mlflow_version": _FORMAT}
    if task is not None:
        document["metadata"] = {"task": task}
    if mlmodel.signature is not None:
        document["signature"] = mlmodel.signature.to_mlflow()
    if (directory / INPUT_EXAMPLE).is_file():
        document["saved_input_example_info"] = {
            "artifact_path": INPUT_EXAMPLE,
            "pandas_orient": "split",
            "type": "dataframe",
        }
    (directory / _FILE).write_text(yaml.safe_dump(document, sort_keys=True), encoding="utf-8")
