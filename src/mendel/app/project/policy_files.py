"""Read and check policy files in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mendel.errors import InvalidPolicy
from mendel.operations import checked_policy

__all__ = ["checked_policy", "read_policy_file"]


def read_policy_file(path: Path) -> dict[str, Any]:
    """
    Read the policy in the file *path*.

    Raises:
        InvalidPolicy: The file is not YAML, a section or key is unknown, or a value is invalid.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"The policy file {path} is not YAML: {error}.") from error
    return checked_policy(body or {}, at=str(path))
