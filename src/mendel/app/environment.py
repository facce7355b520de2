"""The environment variables of the process, which only the application reads."""

from __future__ import annotations

import os
from collections.abc import Mapping


def system_environment() -> Mapping[str, str]:
    """Give the environment variables of this process."""
    return os.environ
