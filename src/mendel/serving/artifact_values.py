"""Write and read the JSON files beside the model in an artefact: input contract, probe rows and parity report."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from mendel.errors import MendelError, ModelNotLoadable
from mendel.values import from_json, to_json

T = TypeVar("T")


def write_value(directory: Path, name: str, value: object) -> None:
    """Write *value* as the file *name* of the artefact in *directory*."""
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(to_json(value))


def read_value(directory: Path, name: str, kind: type[T]) -> T | None:
    """
    Read the file *name* of the artefact in *directory*; None if the artefact has no such file.

    Raises:
        ModelNotLoadable: The file does not contain a value of the type *kind*.
    """
    path = directory / name
    if not path.is_file():
        return None
    try:
        return from_json(path.read_bytes(), kind)
    except MendelError as error:
        raise ModelNotLoadable(f"{name} of the artefact cannot be read.", detail=str(error)) from error
