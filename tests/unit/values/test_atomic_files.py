"""Files that are replaced whole."""

from __future__ import annotations

import os
import threading

import pytest

from mendel.errors import StoreUnavailable
from mendel.values.atomic_files import replacing, write_atomically


def test_readers_see_the_old_or_the_new(tmp_path):
    """While a file is replaced again and again, nobody reads half of it."""
    path, stop, seen = tmp_path / "x", threading.Event(), set()
    write_atomically(path, b"0" * 4096)

    def read():
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for place in range(100):
        write_atomically(path, str(place % 10).encode() * 4096)
    stop.set()
    reader.join()
    assert {(len(content), len(set(content))) for content in seen} == {(4096, 1)}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old(tmp_path, monkeypatch):
    """A crash before the end leaves the former content."""
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def broken(_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreUnavailable, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_secrets_are_their_owners(tmp_path):
    """The mode is there from the first byte."""
    write_atomically(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_link_is_replaced_and_not_followed(tmp_path):
    """What a symbolic link points to stays as it is."""
    (tmp_path / "target").write_bytes(b"target")
    (tmp_path / "link").symlink_to("target")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"target"
    assert not (tmp_path / "link").is_symlink()


def test_an_interrupt_leaves_the_old_and_no_draft(tmp_path):
    """Whatever ends the block early, the former content stands and nothing else is left."""
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def interrupted():
        with replacing(path) as draft:
            draft.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_threads_replace_one_file(tmp_path):
    """Writers at the same time do not share a draft: each content that is seen is whole."""
    path, seen = tmp_path / "x", set()

    def write(letter):
        for _ in range(50):
            write_atomically(path, letter * 1000)
            seen.add(path.read_bytes())

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert seen <= {b"a" * 1000, b"b" * 1000}
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_made_unless_it_must_exist(tmp_path):
    """Parents are made by default; without them, a missing directory is refused by name."""
    write_atomically(tmp_path / "a" / "b" / "x", b"1")
    with pytest.raises(StoreUnavailable, match="c/x cannot be written"), replacing(tmp_path / "c" / "x", parents=False):
        pass
    assert not (tmp_path / "c").exists()
