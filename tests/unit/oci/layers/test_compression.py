"""Layers as they travel."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.adapters.oci.layers.compression import PIECE_BYTES, compress, compressor
from mendel.errors import Unsupported


def packed(pieces: list[bytes]) -> bytes:
    into = io.BytesIO()
    compress(pieces, into)
    return into.getvalue()


@given(st.lists(st.binary(max_size=3000), max_size=12), st.integers(1, 900))
def test_equal_content_is_equal_bytes_however_it_was_cut(pieces: list[bytes], length: int) -> None:
    """The way a stream arrives leaves no trace in the blob, which any gzip reads."""
    whole = b"".join(pieces)
    cut = [whole[start : start + length] for start in range(0, len(whole), length)]
    assert packed(pieces) == packed(cut)
    assert gzip.decompress(packed(pieces)) == whole


def test_both_digests_and_sizes_are_of_what_was_written() -> None:
    """One pass tells the digest of the blob and of what is in it, over several members too."""
    content = b"".join(hashlib.sha256(bytes([n % 256, n >> 8])).digest() * 9 for n in range(9000))
    assert len(content) > 2 * PIECE_BYTES
    into = io.BytesIO()
    layer = compress([content], into)
    assert layer.diff_id == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert layer.digest == f"sha256:{hashlib.sha256(into.getvalue()).hexdigest()}"
    assert (layer.size, layer.unpacked_bytes) == (len(into.getvalue()), len(content))
    assert gzip.decompress(into.getvalue()) == content


def test_a_member_tells_nothing_of_the_machine() -> None:
    """Each gzip header has no time, no name, and the system 'unknown'."""
    assert packed([b"x"])[:10] == bytes.fromhex("1f8b08000000000000ff")


def test_these_bytes_never_change() -> None:
    """The pinned compressor gives the bytes it gave when this was written, on every processor."""
    assert compressor() == "libdeflate/0.9.0/6/1MiB"
    content = b"".join(f"line {n} of many\n".encode() for n in range(100_000))
    assert hashlib.sha256(packed([content])).hexdigest() == GOLDEN


GOLDEN = "3e2a44eb863e6149c3ca2f98583731b4e4b04e65c08a764a3e1246e7df5adfae"


def test_memory_stays_bounded() -> None:
    """200 MB pass through a few pieces' worth of memory."""

    def zeros() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(PIECE_BYTES)

    tracemalloc.start()
    compress(zeros(), io.BytesIO())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * PIECE_BYTES


def test_without_libdeflate_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install that only serves says what to install, not that a module is missing."""
    monkeypatch.setitem(sys.modules, "deflate", None)
    with pytest.raises(Unsupported, match=re.escape("pip install 'mendel[build]'")):
        compressor()
