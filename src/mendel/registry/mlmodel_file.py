"""Read the ``MLmodel`` file of an artefact as text; no model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mendel.errors import InvalidInput
from mendel.values import Signature, check_text

_FILE = "MLmodel"
_MAX_BYTES = 4 << 20
_MISREAD = (ValueError, OverflowError, AttributeError, RecursionError)
"""What PyYAML raises besides its own errors: for dates and numbers that cannot be, wrong tags, and deep nesting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """
    The contents of an ``MLmodel`` file that the registry needs.

    Attributes:
        flavors: Sorted.
        signature: None where it has none.
        task: As Mendel writes it; MLflow alone does not tell.
        classifier: Of the project whose code the artefact belongs to; None for a model by itself.
    """

    flavors: tuple[str, ...]
    signature: Signature | None
    task: str | None = None
    classifier: str | None = None


def read_descriptor(tree: Path) -> Descriptor:
    """
    Read *tree*'s ``MLmodel``.

    Raises:
        InvalidInput: The file is missing or is not an ``MLmodel`` file.
    """
    path = tree / _FILE
    if not path.is_file() or path.is_symlink():
        raise InvalidInput(
            f"{tree} has no {_FILE} file.", remedy="Write the artefact with mendel or save it with MLflow."
        )
    if path.stat().st_size > _MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {_MAX_BYTES >> 20} MiB.")
    try:
        document: Any = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, *_MISREAD) as error:
        raise InvalidInput(f"{path} is not YAML: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise InvalidInput(f"{path} names no flavours.", remedy="Add a mapping under `flavors`.")
    given = document.get("signature")
    if given is not None and not isinstance(given, dict):
        raise InvalidInput(f"{path}: the signature is not a mapping.")
    return Descriptor(
        flavors=tuple(sorted(check_text(str(name)) for name in document["flavors"])),
        signature=Signature.from_mlflow(given) if given and given.get("inputs") else None,
        task=_text(document.get("metadata"), "task"),
        classifier=_text(document["flavors"].get("mendel"), "classifier"),
    )


def _text(section: Any, key: str) -> str | None:
    value = section.get(key) if isinstance(section, dict) else None
    return check_text(value) if isinstance(value, str) else None
