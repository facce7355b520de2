"""Read and write the ``MLmodel`` file of an artefact, MLflow's description of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from mendel.errors import InvalidInput, ModelNotLoadable
from mendel.values.mlmodel_file import MLMODEL, Mlmodel, read_mlmodel_file

__all__ = ["INPUT_EXAMPLE", "Mlmodel", "read_mlmodel", "write_mlmodel"]

INPUT_EXAMPLE: Final = "input_example.json"
"""The file with the input example in an artefact, in MLflow's format."""

_FORMAT: Final = "3.17.2"
"""The version of MLflow whose loaders read what is written here."""


def read_mlmodel(directory: Path) -> Mlmodel:
    """
    Read the ``MLmodel`` of the artefact in *directory*.

    Raises:
        ModelNotLoadable: The file does not exist, or is not an ``MLmodel`` file.
    """
    try:
        return read_mlmodel_file(directory)
    except InvalidInput as error:
        raise ModelNotLoadable(f"The artefact has no valid {MLMODEL} file.", detail=str(error)) from error


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
    (directory / MLMODEL).write_text(yaml.safe_dump(document, sort_keys=True), encoding="utf-8")
