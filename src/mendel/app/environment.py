"""The one place that looks at the process's environment."""

from __future__ import annotations

import os
from collections.abc import Mapping


def system_environment() -> Mapping[str, str]:
    """The process's environment; only ``app`` looks at it."""
    return os.environ
