"""Layers that were made before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mendel.adapters.oci.layers.layer_cache import LayerCache, key_of
from mendel.values import Digest
from mendel.values.directory_trees import file_digest

LARGE = os.urandom(2 << 20)


def blobs(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / "blobs" / "sha256").glob("*"))


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    return LayerCache(tmp_path)


def test_what_was_made_is_found(cache: LayerCache, tmp_path: Path) -> None:
    """A layer is found by its key, whole, by another object and after its bytes were linked elsewhere."""
    made = cache.make("k", [b"content"])
    os.link(cache.path(made), tmp_path / "elsewhere")
    assert LayerCache(tmp_path).find("k") == made
    assert cache.find("other") is None


def test_a_key_depends_on_every_input() -> None:
    """Other inputs, names of inputs or order within a list are other keys."""
    keys = [key_of(a=1), key_of(b=1), key_of(a=[1, 2]), key_of(a=[2, 1])]
    assert len(set(keys)) == len(keys)
    assert key_of(a=1, b=2) == key_of(b=2, a=1)


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_damaged_layer_counts_as_absent(cache: LayerCache, content: bytes) -> None:
    """A blob that is shorter, or was written over with the same length, is made anew; one only touched is kept."""
    made = cache.make("k", [content])
    path = cache.path(made)
    whole = path.read_bytes()
    os.utime(path)
    assert cache.find("k") == made
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert cache.find("k") is None
    assert cache.make("k", [content]) == made
    assert cache.find("k") == made
    path.write_bytes(whole[:-1])
    assert cache.find("k") is None
    path.unlink()
    assert cache.find("k") is None


def test_an_unreadable_record_counts_as_absent(cache: LayerCache, tmp_path: Path) -> None:
    """What another Mendel, or a full disk, left under a key stops nobody."""
    cache.make("k", [b"content"])
    (tmp_path / "keys" / "k.json").write_bytes(b"")
    assert cache.find("k") is None
    assert cache.recall("k") is None


def test_a_layer_whose_record_is_trimmed_while_it_is_found_counts_as_absent(
    cache: LayerCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may let the record go between the check of the blob and its use: then it is made anew."""
    cache.make("k", [b"content"])

    def trimmed_meanwhile(path: Path) -> Digest:
        (tmp_path / "keys" / "k.json").unlink()
        return file_digest(path)

    monkeypatch.setattr("mendel.adapters.oci.layers.layer_cache.file_digest", trimmed_meanwhile)
    assert cache.find("k") is None


def test_a_layer_that_fails_leaves_nothing(cache: LayerCache, tmp_path: Path) -> None:
    """An error in the middle of a layer leaves neither a blob, nor half of one, nor a record."""

    def failing() -> Iterator[bytes]:
        yield LARGE
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.make("k", failing())
    assert blobs(tmp_path) == []
    assert cache.find("k") is None


def test_two_processes_may_make_the_same(tmp_path: Path) -> None:
    """Processes that make one key at once end with one whole layer."""
    program = (
        "import sys; from pathlib import Path; from mendel.adapters.oci.layers.layer_cache import LayerCache; "
        "print(LayerCache(Path(sys.argv[1])).make('k', [b'x' * 9_000_000]).digest)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert len(said) == 1
    found = LayerCache(tmp_path).find("k")
    assert found is not None
    assert said == {f"{found.digest}\n"}
    assert len(blobs(tmp_path)) == 1


def test_a_killed_process_leaves_no_half_blob_for_long(cache: LayerCache, tmp_path: Path) -> None:
    """What a killed process left unfinished goes with the next blob, once a minute old; a live one's stays."""
    cache.make("k", [b"content"])
    directory = tmp_path / "blobs" / "sha256"
    dead = directory / ".unfinished-dead"
    dead.write_bytes(b"half")
    os.utime(dead, (0, 0))
    program = (
        "import sys, os; from pathlib import Path; from mendel.adapters.oci.layout.layout import Layout\n"
        "with Layout(Path(sys.argv[1])).writing() as file:\n"
        "    os.utime(file.name, (0, 0)); print('writing', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as alive:
        assert alive.stdout is not None
        alive.stdout.readline()
        cache.make("other", [b"content of another"])
        assert not dead.exists()
        assert len(list(directory.glob(".unfinished-*"))) == 1
        alive.communicate("", timeout=60)
    assert list(directory.glob(".unfinished-*")) == []


def test_the_cache_is_bounded_by_use(tmp_path: Path) -> None:
    """The layers unused for longest go when others need the room, and none while a build uses the cache."""
    cache = LayerCache(tmp_path, max_bytes=3 << 20)
    old = cache.make("old", [os.urandom(2 << 20)])
    new = cache.make("new", [os.urandom(2 << 20)])
    cache.note("noted", old)
    os.utime(tmp_path / "keys" / "old.json", (1, 1))
    with cache.in_use():
        cache.trim()
        assert cache.path(old).is_file()
    cache.trim()
    assert cache.find("new") == new
    assert cache.find("old") is None
    assert len(blobs(tmp_path)) == 1
    assert cache.recall("noted") == old
