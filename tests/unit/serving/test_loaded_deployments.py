"""Whose fault a failed load is."""

from __future__ import annotations

import errno

import pytest

from mendel.errors import DigestMismatch, ModelFailed, ModelNotLoadable, NotSwappable
from mendel.serving.loaded_deployments import is_at_fault


def caused(cause):
    error = ModelNotLoadable("The model cannot be loaded.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ModelFailed("golden input"),
        caused(None),
        caused(ModuleNotFoundError("mymod")),
        caused(FileNotFoundError(2, "x")),
    ],
    ids=["fails its golden input", "no pickle", "missing module", "missing file"],
)
def test_a_version_is_at_fault_for_what_its_own_load_raised(error):
    """The files had their digest; what then fails is the version's."""
    assert is_at_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        DigestMismatch("changed"),
        NotSwappable("memory budget"),
        caused(MemoryError()),
        caused(ConnectionRefusedError()),
        caused(OSError(errno.ENOSPC, "full")),
        caused(caused(OSError(errno.EMFILE, "too many files"))),
    ],
    ids=["damaged files", "no room", "out of memory", "network", "full disk", "no descriptors"],
)
def test_a_version_is_not_at_fault_for_its_machine(error):
    """A disk, memory or network that failed says nothing about the version, however deep the cause lies."""
    assert not is_at_fault(error)
