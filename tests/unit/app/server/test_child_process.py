"""What a child process of a server prepares before it serves."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os
from pathlib import Path
from mendel.app.server.child_process import widen_descriptor_table

def size():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("FDSize"))

before = len(os.listdir("/proc/self/fd"))
widen_descriptor_table()
widened = size()
opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(600)]
print(widened == size() >= 1024, len(os.listdir("/proc/self/fd")) - before == len(opened))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the table of descriptors is Linux's")
def test_many_connections_do_not_enlarge_the_table_of_descriptors():
    """After the table is widened, 600 more descriptors fit without a change, and no descriptor stays open."""
    told = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout.split() == ["True", "True"]
