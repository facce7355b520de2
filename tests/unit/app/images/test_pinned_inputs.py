"""A lock that this machine would make other bytes of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mendel.adapters.oci.layers.compression import compressor
from mendel.app.images.pinned_inputs import _other_builder, _require_same_builder
from mendel.errors import StaleLock
from mendel.images import BUILDER_FORMAT, Lock, RuntimePin, WheelPin
from mendel.values import Digest

WHEEL = WheelPin(name="mendel", version="1", filename="m.whl", sha256=Digest(f"sha256:{'1' * 64}"), size_bytes=1)
RUNTIME = RuntimePin(version="1", commit=None, url=None, how="installed", wheel=WHEEL)


def test_a_lock_of_this_builder_is_taken():
    """The compressor and the format that are here are no reason against it."""
    lock = Lock(runtime=RUNTIME, environments=(), compressor=compressor())
    assert not _other_builder(lock)
    _require_same_builder(lock)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"compressor": "libdeflate/0.1/6/1MiB"}, "libdeflate/0.1"), ({"builder": BUILDER_FORMAT + 1}, "builder format")],
)
def test_a_lock_of_another_builder_is_refused(change, said):
    """Another compressor or format gives other bytes under the same tag, so it is refused with both named."""
    lock = replace(Lock(runtime=RUNTIME, environments=(), compressor=compressor()), **change)
    with pytest.raises(StaleLock, match=said) as refused:
        _require_same_builder(lock)
    assert "--force" in refused.value.remedy
