"""Packages import what they export on first use."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import mendel
from mendel.lazy_exports import lazy_exports

ROOT = Path(mendel.__file__).parent
LAZY = sorted(
    ".".join(("mendel", *path.parent.relative_to(ROOT).parts))
    for path in ROOT.rglob("__init__.py")
    if "lazy_exports(__name__)" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("package", LAZY)
def test_every_name_is_found(package):
    """Each name of __all__ is what its module gives it, and shown by dir(); none is also the name of a module."""
    module = importlib.import_module(package)
    for name in module.__all__:
        assert not isinstance(getattr(module, name), ModuleType), name
    assert len(set(module.__all__)) == len(module.__all__) > 1
    assert set(module.__all__) <= set(dir(module))
    assert not set(module.__all__) & {path.stem for path in Path(module.__file__).parent.iterdir()}


def test_other_names_are_refused():
    """A name that the package does not export is an AttributeError with both names, as in any module."""
    with pytest.raises(AttributeError, match=r"module 'mendel.values' has no attribute 'Nonsense'"):
        lazy_exports("mendel.values")("Nonsense")
    assert not hasattr(mendel, "__wrapped__")


def test_nothing_else_is_imported():
    """One name of a package imports its module, and no other module of the package."""
    code = "import sys; from mendel.images import LOCK_FILE; print(*sorted(m for m in sys.modules if 'mendel.i' in m))"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["mendel.images", "mendel.images.file_names"]


def test_the_version_is_that_of_the_project():
    """The package knows the version that pyproject.toml gives, without a look at how it was installed."""
    project = tomllib.loads((ROOT.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert mendel.__version__ == project["project"]["version"]
