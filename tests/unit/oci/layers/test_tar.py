"""Tar archives whose every byte is ours."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue
from mendel.images.tar_archives import EPOCH_1980, Directory, Entry, File, Symlink, write_tar

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."}
)
paths = st.lists(names, min_size=1, max_size=5).map("/".join)


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Entries that go together: none below a file or link."""
    chosen: dict[str, Entry] = {}
    for path in draw(st.lists(paths, unique=True, max_size=8)):
        if any(other.startswith(f"{path}/") or path.startswith(f"{other}/") for other in chosen):
            continue
        kind = draw(st.sampled_from(["file", "directory", "link"]))
        if kind == "file":
            chosen[path] = File.of(path, draw(st.binary(max_size=1500)), executable=draw(st.booleans()))
        elif kind == "link":
            chosen[path] = Symlink(path=path, target=draw(paths))
        else:
            chosen[path] = Directory(path=path, owner=draw(st.sampled_from([0, 10001])))
    return list(chosen.values())


def packed(entries: list[Entry]) -> bytes:
    return b"".join(write_tar(entries))


def test_these_bytes_never_change() -> None:
    """An archive with every kind of header has the digest it had when this was written, on every Python."""
    entries = [
        Directory(path="data", owner=10001),
        File.of("app/model.py", b"class Model: pass\n"),
        File.of("bin/run", b"#!/bin/sh\n", executable=True),
        File.of(f"app/{'long' * 40}/größe.txt", b""),
        Symlink(path="bin/python", target="/usr/bin/python3.11"),
        Symlink(path="bin/far", target="a/" * 60 + "b"),
    ]
    assert hashlib.sha256(packed(entries)).hexdigest() == GOLDEN


GOLDEN = "ecbd25b316b52e5bbda9642b8338d76b8770bf0d207327811219669d7c274500"


@given(trees())
def test_what_is_written_reads_back(entries: list[Entry]) -> None:
    """The standard library reads every name, kind, content, target and owner as given, with fixed modes and time."""
    with tarfile.open(fileobj=io.BytesIO(packed(entries))) as archive:
        read = {member.name: (member, archive.extractfile(member) if member.isreg() else None) for member in archive}
    for entry in entries:
        member, content = read[entry.path]
        assert (member.mtime, member.uname, member.gname) == (EPOCH_1980, "", "")
        match entry:
            case File():
                assert content is not None
                assert content.read() == b"".join(entry.content())
                assert (member.mode, member.uid, member.gid) == (0o755 if entry.executable else 0o644, 0, 0)
            case Symlink():
                assert (member.issym(), member.linkname) == (True, entry.target)
            case Directory():
                assert (member.isdir(), member.mode, member.uid, member.gid) == (True, 0o755, entry.owner, entry.owner)


@given(trees(), st.randoms())
def test_order_does_not_matter(entries: list[Entry], chance) -> None:
    """The same entries in any order are the same bytes, each directory once and before what is in it."""
    shuffled = list(entries)
    chance.shuffle(shuffled)
    assert packed(shuffled) == packed(entries)
    with tarfile.open(fileobj=io.BytesIO(packed(entries))) as archive:
        order = archive.getnames()
    assert len(order) == len(set(order))
    assert all("/" not in name or order.index(name.rpartition("/")[0]) < order.index(name) for name in order)


@given(trees())
def test_an_archive_is_whole_blocks_and_ends_with_two_empty_ones(entries: list[Entry]) -> None:
    """Its length is a multiple of 512, and its last 1,024 bytes are zero."""
    content = packed(entries)
    assert len(content) % 512 == 0
    assert not any(content[-1024:])


def test_gnu_tar_lists_what_was_written(tmp_path: Path) -> None:
    """GNU tar reads long and non-ASCII names, owners and links without a word of complaint."""
    long = "x" * 150
    entries = [File.of(f"{long}/é", b"12345"), Symlink(path="link", target=long), Directory(path="data", owner=10001)]
    (tmp_path / "a.tar").write_bytes(packed(entries))
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "--numeric-owner", "-tvf", str(tmp_path / "a.tar")],
        capture_output=True, text=True, check=True, env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert listed.stderr == ""
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert [(line[1], line[-1]) for line in lines if line[-1].startswith("data")] == [("10001/10001", "data/")]
    assert f"{long}/é" in listed.stdout
    assert f"link -> {long}" in listed.stdout


def test_a_file_of_more_than_8_gib_says_its_size() -> None:
    """Sizes that eleven octal digits cannot hold stand in a record, and the header is given before any content."""
    pieces = write_tar([File(path="huge", size=9 << 30, content=lambda: iter(()))])
    header = next(pieces)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024)), mode="r|") as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size) == ("huge", 9 << 30)
    with pytest.raises(InvalidValue, match="changed from"):
        list(pieces)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\0b"])
def test_a_path_that_leaves_the_archive_is_refused(path: str) -> None:
    """Nothing is written under a name that could land elsewhere."""
    with pytest.raises(InvalidValue, match="not a valid path in an image layer"):
        packed([File.of(path, b"")])


def test_contradictions_are_refused() -> None:
    """A path twice, or a file that is also a directory, is no archive."""
    with pytest.raises(InvalidValue, match="twice"):
        packed([File.of("a", b"1"), File.of("a", b"2")])
    with pytest.raises(InvalidValue, match="both a directory and a file"):
        packed([File.of("a", b"1"), File.of("a/b", b"2")])


@pytest.mark.parametrize("given", [b"12", b"1234"])
def test_a_file_gives_what_it_promised(given: bytes) -> None:
    """Fewer or more bytes than the header says break no archive: they end it with an error."""
    with pytest.raises(InvalidValue, match="changed from 3 to"):
        packed([File(path="a", size=3, content=lambda: (given,))])


def test_content_is_asked_for_when_its_turn_comes() -> None:
    """No file is opened before the ones sorted before it are through."""
    opened: list[str] = []

    def content(name: str) -> Iterator[bytes]:
        opened.append(name)
        yield b"x"

    pieces = write_tar([File(path=name, size=1, content=lambda name=name: content(name)) for name in ("b", "a")])
    next(pieces)
    assert opened == []
    next(pieces)
    assert opened == ["a"]
