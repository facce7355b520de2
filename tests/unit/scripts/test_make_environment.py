"""`make` on a machine whose python3 is too old, or lacks modules: one sentence, or a newer Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OLD = """case "$*" in *version_info*) exit 1 ;; *python_version*) echo 3.9.2 ;; esac"""
NEW = """case "$*" in *python_version*) echo 3.12.4 ;; *'import venv'*) exit {venv} ;; '-m venv'*) exit 3 ;; esac"""


@pytest.fixture
def make(tmp_path):
    """Run `make setup` in a copy of the files that it reads, where only the given Pythons are on PATH."""
    for name in ("Makefile", "pyproject.toml", "requirements", "scripts/make_environment.sh"):
        target = tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(ROOT / name)
    programs = tmp_path / "bin"
    programs.mkdir()

    def run(*arguments, **pythons):
        for name, script in pythons.items():
            python = programs / name.replace("_", ".")
            python.write_text(f"#!/bin/sh\n{script}\n")
            python.chmod(0o755)
        done = subprocess.run(
            [shutil.which("make"), "setup", *arguments],
            cwd=tmp_path / "clone",
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.splitlines(), done.stderr.splitlines()

    return run


def test_an_old_python_is_told_in_one_sentence(make):
    """With Python 3.9 alone, make names the version that is there, those that would do, and how to name one."""
    said, failed = make(python3=OLD)
    assert said == []
    assert failed[0] == (
        "Mendel needs Python 3.11 or newer; python3 is 3.9.2, and there is no python3.11, python3.12 or python3.13. "
        "Install one of them, or name it: make PYTHON=/path/to/python3"
    )
    assert len(failed) == 2
    assert "Error 1" in failed[1]


def test_a_newer_python_beside_an_old_one_is_taken(make):
    """With Python 3.9 as python3 and a python3.12, make takes the latter."""
    said, _ = make(python3=OLD, python3_12=NEW.format(venv=0))
    assert said == ["Making .venv with Python 3.12.4"]


def test_a_python_that_is_named_and_too_old_is_told(make):
    """PYTHON=... names the interpreter, and no other is taken in its place."""
    _, failed = make("PYTHON=python3", python3=OLD, python3_12=NEW.format(venv=0))
    assert failed[0] == (
        "Mendel needs Python 3.11 or newer; python3 is 3.9.2. Name another one: make PYTHON=/path/to/python3"
    )


def test_a_python_without_venv_is_told(make):
    """Debian's python3 without python3-venv: the sentence names the package."""
    said, failed = make(python3=NEW.format(venv=1))
    assert said == []
    assert failed[0] == (
        "python3 has no modules venv and ensurepip. Install them (Debian, Ubuntu: apt install python3-venv), "
        "then run make again."
    )
