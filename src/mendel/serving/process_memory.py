"""The resident memory of a process, measured."""

from __future__ import annotations

import ctypes
import gc
import sys

from mendel.serving import model_program


def resident_bytes(pid: int | None = None) -> int | None:
    """
    Give the resident memory of the process *pid*, or of this process, in bytes.

    None if the process has ended, or if the system does not report memory (Linux does).
    """
    return model_program.resident_bytes("self" if pid is None else str(pid))


def return_free_memory() -> None:
    """Collect garbage, and with glibc return freed memory to the operating system."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
