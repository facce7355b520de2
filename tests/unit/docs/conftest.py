"""The repository's scripts, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def _loaded(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def check_docs():
    return _loaded("check_docs")


@pytest.fixture(scope="session")
def make_reference():
    return _loaded("make_reference")


@pytest.fixture(scope="session")
def check_language():
    return _loaded("check_language")
