"""The tables beside the repository, which need not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"


def shared_data(name: str) -> Path:
    """A table; a test that needs it is skipped where it is absent, in CI too."""
    if not (DATA / name).exists():
        pytest.skip(f"needs ../shared/data/{name}")
    return DATA / name
