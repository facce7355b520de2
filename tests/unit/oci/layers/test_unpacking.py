"""Layers back into files, whatever they hold."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from mendel.adapters.oci.layers.container_files import files_below
from mendel.adapters.oci.layers.unpacking import measure, read_only_copy, unpack
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.sandbox.unpacked_layers import UnpackedLayers
from mendel.errors import Corrupt, DigestMismatch, Unsupported
from mendel.images.manifests import LAYER, Descriptor
from mendel.values import Digest

Layer = tuple[Descriptor, Digest]
Content = Mapping[str, bytes | str | tarfile.TarInfo | None]


def layer_in(layout: Layout, content: Content) -> Layer:
    """A layer: bytes are files, text a link's target, ``=name`` a hard link, None a directory."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, what in content.items():
            entry = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.name = name
            if what is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, str):
                entry.type = tarfile.LNKTYPE if what.startswith("=") else tarfile.SYMTYPE
                entry.linkname = what.removeprefix("=")
            elif isinstance(what, bytes):
                entry.size = len(what)
            archive.addfile(entry, io.BytesIO(what) if isinstance(what, bytes) else None)
    packed = gzip.compress(tar.getvalue())
    layout.put(packed)
    return Descriptor.of(packed, LAYER), Digest(f"sha256:{hashlib.sha256(tar.getvalue()).hexdigest()}")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def stacked(layout: Layout, root: Path, *layers: Content) -> dict[str, str]:
    """What a container sees of these layers: names with contents, ``-> target`` for links, ``/`` for directories."""
    root.mkdir()
    for content in layers:
        layer, diff_id = layer_in(layout, content)
        unpack(layout, layer, diff_id, root)
    seen: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            seen[name] = f"-> {path.readlink()}"
        else:
            seen[name] = "/" if path.is_dir() else path.read_text()
    return seen


def test_upper_layers_win_and_whiteouts_take_away(layout: Layout, tmp_path: Path) -> None:
    """Files are replaced, whiteouts remove files and trees, an opaque directory keeps what its layer brings."""
    seen = stacked(
        layout,
        tmp_path / "root",
        {"a": b"1", "b": b"1", "tree/x": b"1", "opaque/old": b"1", "opaque/deep/old": b"1"},
        {"a": b"2", ".wh.b": b"", ".wh.tree": b"", "opaque/new": b"2", "opaque/.wh..wh..opq": b""},
    )
    assert seen == {"a": "2", "opaque": "/", "opaque/new": "2"}


def test_kinds_replace_each_other(layout: Layout, tmp_path: Path) -> None:
    """A directory becomes a file, a file a directory, a link a directory, as the upper layer says."""
    seen = stacked(
        layout,
        tmp_path / "root",
        {"one/x": b"", "two": b"", "real/x": b"1", "three": "real"},
        {"one": b"file", "two": None, "two/y": b"2", "three": None, "three/z": b"3"},
    )
    assert seen == {"one": "file", "two": "/", "two/y": "2", "real": "/", "real/x": "1", "three": "/", "three/z": "3"}


def test_names_pass_through_links_of_lower_layers(layout: Layout, tmp_path: Path) -> None:
    """``lib -> usr/lib`` of the base carries what an upper layer puts into ``lib``."""
    seen = stacked(layout, tmp_path / "root", {"usr/lib/a": b"a", "lib": "usr/lib"}, {"lib/b": b"b"})
    assert seen == {"lib": "-> usr/lib", "usr": "/", "usr/lib": "/", "usr/lib/a": "a", "usr/lib/b": "b"}


@pytest.mark.parametrize("target", ["/", "../../../..", "/outside", "../outside"])
def test_no_link_leads_outside(layout: Layout, tmp_path: Path, target: str) -> None:
    """Absolute links and climbing ones end inside the unpacked tree, as they would in a container."""
    (tmp_path / "outside").mkdir()
    stacked(layout, tmp_path / "root", {"way": target}, {"way/outside/evil": b"1", "way/evil": b"1"})
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (tmp_path / "evil").exists()
    assert len(list((tmp_path / "root").rglob("evil"))) == 2


def test_a_link_is_replaced_not_written_through(layout: Layout, tmp_path: Path) -> None:
    """A file with the name of a link to a file outside does not touch that file."""
    (tmp_path / "victim").write_text("safe")
    stacked(layout, tmp_path / "root", {"link": str(tmp_path / "victim")}, {"link": b"evil"})
    assert (tmp_path / "victim").read_text() == "safe"


@pytest.mark.parametrize("name", ["a/.wh.", "a/.wh..", "a/.wh...", ".wh.", ".wh.."])
def test_whiteouts_of_no_name_are_refused(layout: Layout, tmp_path: Path, name: str) -> None:
    """A whiteout takes away what it names beside it: never its own directory, nor the one above."""
    (tmp_path / "beside").write_text("stays")
    with pytest.raises(Corrupt, match="which names no file"):
        stacked(layout, tmp_path / "root", {"a/x": b"1"}, {name: b""})
    assert (tmp_path / "root/a/x").exists()
    assert (tmp_path / "beside").exists()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "a/.."])
def test_names_that_climb_are_refused(layout: Layout, tmp_path: Path, name: str) -> None:
    """A layer that leads out of the imageself is damaged or hostile."""
    with pytest.raises(Corrupt, match="leads out of the image"):
        stacked(layout, tmp_path / "root", {name: b"1"})


@pytest.mark.parametrize("target", ["=../../victim", "=missing", "=/", "=way/victim"])
def test_hard_links_stay_inside(layout: Layout, tmp_path: Path, target: str) -> None:
    """A hard link to what is outside, or nowhere, is refused."""
    (tmp_path / "victim").write_text("safe")
    with pytest.raises(Corrupt, match="which does not exist"):
        stacked(layout, tmp_path / "root", {"way": "..", "link": target})


def test_hard_links_share_their_file(layout: Layout, tmp_path: Path) -> None:
    """Names of one file are one file, across layers too."""
    stacked(layout, tmp_path / "root", {"d/a": b"1", "b": "=d/a"}, {"c": "=/b"})
    assert (tmp_path / "root/c").samefile(tmp_path / "root/d/a")


def test_links_that_go_round_are_refused(layout: Layout, tmp_path: Path) -> None:
    """A circle of links ends with an error, not never."""
    with pytest.raises(Corrupt, match="circle"):
        stacked(layout, tmp_path / "root", {"a": "b", "b": "a"}, {"a/x": b""})


def test_rights_and_devices_are_left_out(layout: Layout, tmp_path: Path) -> None:
    """No setuid program, device or pipe comes out of a layer; times and other modes do."""
    setuid, device, pipe = tarfile.TarInfo(), tarfile.TarInfo(), tarfile.TarInfo()
    setuid.mode, setuid.mtime = 0o6755, 1000
    device.type, pipe.type = tarfile.CHRTYPE, tarfile.FIFOTYPE
    stacked(layout, tmp_path / "root", {"su": setuid, "null": device, "pipe": pipe})
    status = (tmp_path / "root/su").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o755, 1000)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["su"]


def test_a_layer_is_what_its_image_says(layout: Layout, tmp_path: Path) -> None:
    """Another content than the configuration's diff id, or a damaged one, is refused when read or measured."""
    layer, diff_id = layer_in(layout, {"a": b"1"})
    other = Digest("sha256:" + "1" * 64)
    assert measure(layout, layer, diff_id).unpacked_bytes == 10240
    for act in (lambda: measure(layout, layer, other), lambda: unpack(layout, layer, other, tmp_path)):
        with pytest.raises(DigestMismatch):
            act()
    damaged = Descriptor.of(layout.read(layer.digest)[:-20], LAYER)
    layout.put(layout.read(layer.digest)[:-20])
    with pytest.raises(Corrupt, match="cannot be unpacked"):
        measure(layout, damaged, diff_id)


def test_zstd_is_said_to_be_unknown(layout: Layout) -> None:
    """A base whose layers are zstd names what to do."""
    zstd = Descriptor.of(b"x", LAYER.replace("gzip", "zstd"))
    with pytest.raises(Unsupported, match="zstd"):
        measure(layout, zstd, zstd.digest)


@pytest.mark.parametrize("bounds", [{"most": 1}, {"max_bytes": 15_000}], ids=["number", "bytes"])
def test_trees_are_unpacked_once_and_bounded(layout: Layout, tmp_path: Path, bounds: dict[str, int]) -> None:
    """A tree is made once, found again, and the one unused for longest goes, but never one in use."""
    trees = UnpackedLayers(tmp_path / "trees", **bounds)
    one, two = layer_in(layout, {"a": b"1"}), layer_in(layout, {"a": b"2"})
    with trees.tree(layout, [one]) as first:
        (first / "mark").touch()
        with trees.tree(layout, [two]) as second:
            assert (second / "root/a").read_text() == "2"
            os.utime(first, (1, 1))
        assert (first / "mark").exists()
    os.utime(first, (1, 1))
    with trees.tree(layout, [layer_in(layout, {"a": b"3"})]):
        assert not first.exists()
    assert [path for path in (tmp_path / "trees").iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_process_left_goes(layout: Layout, tmp_path: Path) -> None:
    """Half a tree of a process that is no more vanishes with the next one."""
    dead = tmp_path / "trees" / ".unfinished-dead"
    (dead / "root").mkdir(parents=True)
    os.utime(dead, (1, 1))
    with UnpackedLayers(tmp_path / "trees").tree(layout, [layer_in(layout, {"a": b"1"})]):
        assert not dead.exists()


def test_a_copy_shares_its_files(tmp_path: Path) -> None:
    """An artefact that was unpacked once is not copied for each verification."""
    (tmp_path / "one/d").mkdir(parents=True)
    (tmp_path / "one/d/f").write_text("x")
    (tmp_path / "two").mkdir()
    read_only_copy(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one/d/f").samefile(tmp_path / "two/d/f")


STACKS: dict[str, list[Content]] = {
    "one": [{"app": None, "app/model.py": b"1", "app/pkg/deep.py": b"2", "etc/app/x": b"3"}],
    "upper_wins": [{"app/model.py": b"1", "app/b.py": b"1"}, {"app/model.py": b"2"}],
    "whiteouts": [
        {"app/a.py": b"1", "app/pkg/b.py": b"2", "app/pkg2/c.py": b"3"},
        {"app/.wh.a.py": b"", "app/.wh.pkg": b""},
    ],
    "opaque": [{"app/pkg/b.py": b"2", "app/c.py": b"3"}, {"app/pkg/.wh..wh..opq": b"", "app/pkg/d.py": b"4"}],
    "all_gone": [{"app/a.py": b"1"}, {".wh.app": b""}],
    "file_for_directory": [{"app/pkg/b.py": b"2"}, {"app/pkg": b"a file"}],
    "directory_for_file": [{"app/pkg": b"a file"}, {"app/pkg": None, "app/pkg/b.py": b"2"}],
    "link_that_went": [{"app/d": None, "app/d/x": "/far"}, {"app/.wh.d": b""}, {"app/d/x/evil.py": b"1"}],
    "link_behind_opaque": [{"app/d": None, "app/d/x": "/far"}, {"app/d/.wh..wh..opq": b""}, {"app/d/x/evil.py": b"1"}],
    "dotted": [{"./app/./a.py": b"1"}, {"./app/.wh.b.py": b"", "app//c.py": b"2"}],
}


@pytest.mark.parametrize("stack", STACKS)
def test_files_are_read_as_they_would_be_unpacked(layout: Layout, tmp_path: Path, stack: str) -> None:
    """Reading a directory of stacked layers gives the files that unpacking them leaves there."""
    seen = stacked(layout, tmp_path / "root", *STACKS[stack])
    files = {name.removeprefix("app/"): text for name, text in seen.items() if name.startswith("app/") and text != "/"}
    read = files_below(layout, [layer_in(layout, content) for content in STACKS[stack]], "/app")
    assert read == {name: Digest(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}") for name, text in files.items()}


def test_links_are_no_files(layout: Layout) -> None:
    """A link in the directory or in its place is told; a file that is written through a link counts where it lands."""
    layers = [
        layer_in(layout, {"app/a.py": b"1", "app/b.py": "a.py", "opt/way": "../app", "loop": "loop"}),
        layer_in(layout, {"opt/way/c.py": b"2", "loop/d.py": b"3"}),
    ]
    read = files_below(layout, layers, "/app")
    assert {name: digest is None for name, digest in read.items()} == {"a.py": False, "b.py": True, "c.py": False}
    layers.append(layer_in(layout, {"app": "/elsewhere"}))
    assert files_below(layout, layers, "/app") == {".": None}


def test_a_layer_with_another_content_than_stated_is_refused(layout: Layout) -> None:
    """The digest of the uncompressed content is checked, too."""
    layer, _ = layer_in(layout, {"app/a.py": b"1"})
    with pytest.raises(DigestMismatch):
        files_below(layout, [(layer, Digest(f"sha256:{0:064}"))], "/app")
