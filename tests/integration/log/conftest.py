"""Programs that are killed, and what they work on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def start():
    """Start a program of ``programs/``; whatever still runs at the end is killed."""
    started = []

    def run(name, *arguments):
        command = [sys.executable, PROGRAMS / f"{name}.py", *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
