"""The environment variables of the process, which only the application reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def system_environment() -> Mapping[str, str]:
    """Give the environment variables of this process."""
    return os.environ


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Give the user's cache of Mendel: ``MENDEL_CACHE``, ``XDG_CACHE_HOME/mendel`` or ``~/.cache/mendel``."""
    given, shared = environment.get("MENDEL_CACHE"), environment.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path(shared or Path.home() / ".cache") / "mendel").absolute()
