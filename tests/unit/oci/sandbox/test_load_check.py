"""What an image is asked to import, asked of this interpreter."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mendel.adapters.oci.sandbox.load_check import load_command
from mendel.images.load_command import not_verified

WHOLE = (
    "mendel/__init__.py",
    "mendel/app/__init__.py",
    "mendel/app/server/__init__.py",
    "mendel/app/server/healthcheck.py",
    "mendel/app/cli/__init__.py",
)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "Mendel is not installed in the image."),
        (WHOLE[:1], "ModuleNotFoundError: No module named 'mendel.app'"),
        (WHOLE[:3] + WHOLE[4:], "ModuleNotFoundError: No module named 'mendel.app.server.healthcheck'"),
        (WHOLE[:4], "ModuleNotFoundError: No module named 'mendel.app.cli'"),
        (WHOLE, ""),
    ],
)
def test_a_mendel_that_is_there_only_by_name_is_none(workshop, tmp_path: Path, files, said):
    """Its command line and its health check are imported for real; that there is a package is not enough."""
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    _, option, program, _, *wanted = load_command(workshop.plan(labels={}))
    command = [sys.executable, "-P", "-S", option, program, str(tmp_path), *wanted]
    paths = {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode != 0, ended.stderr.strip().rpartition("\n")[2]) == (bool(said), said)


def test_a_failed_load_in_an_environment_of_its_own_names_the_shared_one(workshop):
    """Code that imports Mendel fails only in an image with two environments, and the remedy there says why."""
    plan = workshop.plan()
    apart = replace(plan, environment=replace(plan.environment, project=()))
    assert "isolation" not in not_verified(plan, "").remedy
    assert "needs build.isolation: shared and 'mendel lock'." in not_verified(apart, "").remedy
