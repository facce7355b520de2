"""The resident memory of this process, measured."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Give the resident memory of this process in bytes; None if the system does not report it (Linux does)."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def return_free_memory() -> None:
    """Collect garbage, and with glibc return freed memory to the operating system."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
