"""The two forms of a door, fast and standard, for the fixtures that open doors."""

from __future__ import annotations

import pytest

both_forms = pytest.mark.parametrize("fast", [False, True], ids=["standard", "fast"])
"""Runs a test once per form."""


@pytest.fixture
def fast() -> bool:
    """Whether the doors are fast; ``both_forms`` replaces this value."""
    return False
