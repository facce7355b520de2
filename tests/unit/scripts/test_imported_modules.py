"""No test file leaves the modules of a project to the test files after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parents[2]
LEAVES = """
import importlib
import sys

def test_imports(monkeypatch, tmp_path):
    (tmp_path / "training.py").write_text("A = 1")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("training")

def test_is_the_last():
    assert "training" in sys.modules
"""
FINDS_NONE = "import sys\n\ndef test_imports():\n    assert 'training' not in sys.modules\n"


def test_a_file_that_leaves_a_module_of_a_project_fails_and_no_other(tmp_path):
    """The last test of the file that left a module in ``sys.modules`` fails; the next file does not see the module."""
    (tmp_path / "test_a.py").write_text(LEAVES)
    (tmp_path / "test_b.py").write_text(FINDS_NONE)
    plugins = {
        "PYTHONPATH": str(SUPPORT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "support.imported_modules",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MENDEL_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**inherited, **plugins},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert "3 passed, 1 error" in done.stdout
    assert "ERROR test_a.py::test_is_the_last" in done.stdout
    assert "test_a.py left modules in sys.modules: training (" in done.stdout
