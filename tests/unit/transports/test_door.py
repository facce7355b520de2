"""The form of the doors: what `serving.doors` means on this system."""

from __future__ import annotations

import sys

import pytest

from mendel.transports.door import fast_obstacle, is_fast


def test_fast_is_fast_and_standard_is_not():
    """On Linux with its packages, `fast` is fast, `standard` is not, and `auto` is what the constant says."""
    assert fast_obstacle() is None
    assert [is_fast("fast"), is_fast("standard"), is_fast("auto")] == [True, False, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda patch: patch.setattr(sys, "platform", "darwin"), "darwin"),
        (lambda patch: patch.setattr(sys, "path", []), "uvloop"),
    ],
    ids=["another system", "no package"],
)
def test_where_fast_doors_cannot_run_they_are_standard(monkeypatch, change, said):
    """Another system, or a missing package, is named, and no value of the setting is fast there."""
    change(monkeypatch)
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    assert said in fast_obstacle()
    assert not any(is_fast(doors) for doors in ("fast", "standard", "auto"))
