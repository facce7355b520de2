"""The tables beside the repository, which need not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"


def has_shared_data(name: str) -> bool:
    """Whether a table is there."""
    return (DATA / name).exists()


def shared_data(name: str) -> Path:
    """A table; a test that needs it is skipped where it is absent, in CI too."""
    if not has_shared_data(name):
        pytest.skip(f"needs ../shared/data/{name}")
    return DATA / name
