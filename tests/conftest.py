"""What all tests have in common stands in `support`; here is what of it are fixtures."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("support")
pytest_plugins = (
    "support.door_forms",
    "support.engines",
    "support.imported_modules",
    "support.parts",
    "support.ports",
    "support.postgres",
    "support.programs",
    "support.registries",
    "support.root_filesystems",
    "support.shared",
)
