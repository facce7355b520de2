"""Wheels as layers, without an installer."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mendel.adapters.oci.layers.wheel_archives import WheelFile, wheel_files
from mendel.adapters.oci.layers.wheel_layers import grouped, refuse_disagreement, scaffold, wheel_entries
from mendel.errors import BuildRefused, Corrupt
from mendel.images import VENV, BasePin, Venv, WheelPin
from mendel.images.tar_archives import Directory, File, Symlink
from mendel.values import Digest

SITE = "opt/mendel/lib/python3.11/site-packages"
BASE = BasePin(
    reference="python:3.11-slim",
    digest=Digest("sha256:" + "0" * 64),
    python="3.11",
    interpreter="/usr/local/bin/python3.11",
    glibc="2.36",
)
OWN = Venv(directory=VENV, base=BASE, wheels=())
MakeWheel = Callable[..., Path]


def read(wheel: Path) -> dict[str, tuple[bytes, bool]]:
    with wheel_files(wheel, OWN) as files:
        return {file.path: (b"".join(file.content()), file.executable) for file in files}


def unpacked(wheel: Path, into: Path) -> Path:
    for path, (content, _) in read(wheel).items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_bytes(content)
    return into / SITE


def member(name: str, *, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_every_scheme_has_its_place(make_wheel: MakeWheel) -> None:
    """Packages, scripts, data, headers and both libs go where an installer would put them."""
    wheel = make_wheel(
        "pkg",
        {
            "pkg/__init__.py": b"",
            "pkg-1.0.data/purelib/pure.py": b"",
            "pkg-1.0.data/platlib/plat.so": b"",
            "pkg-1.0.data/data/share/pkg.txt": b"",
            "pkg-1.0.data/headers/pkg.h": b"",
            "pkg-1.0.data/scripts/tool": b"\x7fELF",
        },
    )
    assert {
        f"{SITE}/pkg/__init__.py",
        f"{SITE}/pure.py",
        f"{SITE}/plat.so",
        "opt/mendel/share/pkg.txt",
        "opt/mendel/include/site/python3.11/pkg/pkg.h",
        "opt/mendel/bin/tool",
    } < set(read(wheel))


def test_scripts_run_with_the_interpreter_of_the_image(make_wheel: MakeWheel) -> None:
    """``#!python`` is rewritten, entry points become scripts, both executable, whatever the wheel's modes say."""
    wheel = make_wheel(
        "pkg",
        {"pkg-1.0.data/scripts/old": b"#!pythonw -E\nprint(1)\n"},
        entry_points="[console_scripts]\nNew = pkg.cli:Main.run [extra]\n[gui_scripts]\nwin=pkg:main\n[other]\nx=1\n",
    )
    files = read(wheel)
    assert files["opt/mendel/bin/old"] == (b"#!/opt/mendel/bin/python\nprint(1)\n", True)
    content, executable = files["opt/mendel/bin/New"]
    assert executable
    assert content.startswith(b"#!/opt/mendel/bin/python\n")
    assert b"from pkg.cli import Main\n" in content
    assert b"sys.exit(Main.run())" in content
    assert "opt/mendel/bin/win" in files


def test_nothing_of_an_installation_and_no_byte_code_comes_along(make_wheel: MakeWheel) -> None:
    """INSTALLER, REQUESTED, direct_url.json, signatures of RECORD and .pyc stay outside."""
    left_out = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws")
    wheel = make_wheel(
        "pkg",
        {
            **{f"pkg-1.0.dist-info/{name}": b"x" for name in left_out},
            "pkg/__pycache__/a.cpython-311.pyc": b"x",
            "pkg/b.pyc": b"x",
            "pkg/a.py": b"",
            "pkg/licenses/INSTALLER": b"kept: it is not in dist-info",
        },
    )
    assert set(read(wheel)) == {
        f"{SITE}/pkg/a.py",
        f"{SITE}/pkg/licenses/INSTALLER",
        *(f"{SITE}/pkg-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")),
    }


def test_importlib_metadata_finds_everything(make_wheel: MakeWheel, tmp_path: Path) -> None:
    """Version, entry points and files are there, and every file that RECORD lists exists with its hash."""
    wheel = make_wheel(
        "pkg",
        {"pkg/__init__.py": b"X = 1\n", "pkg-1.0.data/scripts/tool": b"#!python\n", "pkg/old.pyc": b"x"},
        entry_points="[console_scripts]\ncmd = pkg:main\n",
    )
    site = unpacked(wheel, tmp_path / "root")
    distribution = importlib.metadata.Distribution.at(site / "pkg-1.0.dist-info")
    assert distribution.version == "1.0"
    assert [point.value for point in distribution.entry_points] == ["pkg:main"]
    files = {str(path): path for path in distribution.files or ()}
    assert {"../../../bin/cmd", "../../../bin/tool", "pkg/__init__.py"} < set(files)
    assert "pkg/old.pyc" not in files
    for name, path in files.items():
        if path.hash is not None:
            digest = hashlib.sha256((site / name).resolve().read_bytes()).digest()
            assert path.hash.value == base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), name


def test_what_is_executable_stays_so(make_wheel: MakeWheel) -> None:
    """A program inside a package keeps its mode's meaning; everything else of modes is dropped."""
    wheel = make_wheel("pkg", {member("pkg/program", mode=0o100775): b"", member("pkg/data", mode=0o100600): b""})
    files = read(wheel)
    assert files[f"{SITE}/pkg/program"][1]
    assert not files[f"{SITE}/pkg/data"][1]


@pytest.mark.parametrize(
    "files",
    [
        {"/etc/passwd": b""},
        {"../outside.py": b""},
        {"pkg/../../outside.py": b""},
        {"pkg\\evil.py": b""},
        {member("pkg/link", mode=stat.S_IFLNK | 0o777): b"/etc/passwd"},
        {member("pkg/device", mode=stat.S_IFCHR | 0o666): b""},
        {"pkg-1.0.data/elsewhere/x": b""},
        {"other-1.0.dist-info/METADATA": b""},
    ],
    ids=["absolute", "above", "inside-above", "backslash", "link", "device", "scheme", "two-wheels"],
)
def test_a_wheel_that_reaches_outside_is_refused(make_wheel: MakeWheel, files: Mapping[str, bytes]) -> None:
    """Nothing of a hostile wheel is used: the whole wheel is refused, by name."""
    with pytest.raises(Corrupt, match=r"pkg-1\.0-py3-none-any\.whl"):
        read(make_wheel("pkg", files))


@pytest.mark.parametrize(
    "line",
    ["../evil = pkg:main", "cmd = pkg;import os:main", "cmd = pkg:main()", "cmd = pkg", "c md = pkg:main", ".. = a:b"],
)
def test_an_entry_point_cannot_smuggle_code_or_paths(make_wheel: MakeWheel, line: str) -> None:
    """Names of scripts are plain file names, and what they call is a dotted name."""
    with pytest.raises(Corrupt, match="entry point"):
        read(make_wheel("pkg", {}, entry_points=f"[console_scripts]\n{line}\n"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(make_wheel: MakeWheel) -> None:
    """A wheel in which readers could disagree about a file is no wheel."""
    path = make_wheel("pkg", {"pkg/a.py": b"1"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("pkg/a.py", b"2")
    with pytest.raises(Corrupt, match="the same file name twice"):
        read(path)


def test_damage_is_noticed(make_wheel: MakeWheel) -> None:
    """A flipped byte, and an end that is missing, are found by the wheel's own checksums."""
    path = make_wheel("pkg", {"pkg/a.py": bytes(range(256)) * 40})
    whole = path.read_bytes()
    at = whole.index(b"pkg/a.py") + 60
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    with pytest.raises(Corrupt, match="damaged"):
        read(path)
    path.write_bytes(whole[:-30])
    with pytest.raises(Corrupt, match="damaged"):
        read(path)


def test_a_bomb_stops_at_its_bound(make_wheel: MakeWheel, tmp_path: Path) -> None:
    """A wheel that claims a gigabyte out of a few kilobytes is refused before anything of it is inflated."""
    path = make_wheel("pkg", {"pkg/a.py": b"1" * 1000}, record=False)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="unpacks to more than"):
        read(path)


def test_a_member_larger_than_it_says_is_refused(make_wheel: MakeWheel) -> None:
    """Content is cut off where the directory of the wheel says it ends, and the wheel refused."""
    path = make_wheel("pkg", {"pkg/a.py": b"1" * 500_000}, record=False)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="is damaged at"):
        read(path)


def test_wheels_that_disagree_are_both_named(make_wheel: MakeWheel) -> None:
    """The same path with other content, or a file where the other has a directory, cannot be unpacked in any order."""
    one = make_wheel("one", {"shared/a.py": b"1", "shared/same.py": b"=", "x": b""})
    two = make_wheel("two", {"shared/a.py": b"2", "shared/same.py": b"=", "x/y.py": b""})
    with pytest.raises(BuildRefused) as refused:
        refuse_disagreement({"one": one, "two": two}, OWN)
    assert refused.value.reasons == (
        f"one and two both contain /{SITE}/shared/a.py, with different content.",
        f"one contains /{SITE}/x as a file, and two contains /{SITE}/x as a directory.",
    )


def test_a_wheel_cannot_replace_the_interpreter(make_wheel: MakeWheel) -> None:
    """What the environment itself has, no wheel brings."""
    wheel = make_wheel("evil", {"evil-1.0.data/scripts/python": b"#!/bin/sh\n"})
    with pytest.raises(BuildRefused, match="the virtual environment and evil both contain /opt/mendel/bin/python"):
        refuse_disagreement({"evil": wheel}, OWN)


def test_what_two_wheels_bring_alike_stands_in_a_layer_once(make_wheel: MakeWheel) -> None:
    """Equal files of two wheels are one file."""
    one, two = make_wheel("one", {"shared.py": b"="}), make_wheel("two", {"shared.py": b"="})
    refuse_disagreement({"one": one, "two": two}, OWN)
    with wheel_entries({"two": two, "one": one}, OWN) as entries:
        assert [entry.path for entry in entries].count(f"{SITE}/shared.py") == 1


def pins(sizes: Iterable[int]) -> list[WheelPin]:
    zero = Digest("sha256:" + "0" * 64)
    return [
        WheelPin(name=f"w{n:03}", version="1", filename=f"w{n}.whl", sha256=zero, size_bytes=size)
        for n, size in enumerate(sizes)
    ]


def test_large_wheels_have_layers_of_their_own_and_small_ones_share() -> None:
    """A layer for each wheel of a MiB and more, by name, and one for all others, whatever the order given."""
    few = pins([5 << 20, 10, 1 << 20, 20])
    assert [[pin.name for pin in group] for group in grouped(few)] == [["w000"], ["w002"], ["w001", "w003"]]
    assert grouped(few[::-1]) == grouped(few)
    assert grouped([]) == ()


def test_layers_are_bounded_whatever_there_is() -> None:
    """Of 500 large wheels the largest have layers of their own, and nothing is lost."""
    many = pins(range(2 << 20, (2 << 20) + 500))
    groups = grouped(many)
    assert len(groups) == 65
    assert sorted(pin.name for group in groups for pin in group) == [pin.name for pin in many]


def test_the_scaffold_is_an_environment(tmp_path: Path) -> None:
    """With a real interpreter behind its link, it is a virtual environment whose site-packages are the wheels'."""
    interpreter = Path(sys.executable).resolve()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for entry in scaffold([replace(OWN, base=replace(BASE, interpreter=str(interpreter), python=version))]):
        path = tmp_path / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        match entry:
            case Directory():
                path.mkdir(exist_ok=True, parents=True)
            case File():
                path.write_bytes(b"".join(entry.content()))
            case Symlink():
                path.symlink_to(entry.target)
    (tmp_path / f"opt/mendel/lib/python{version}/site-packages/here.py").write_text("X = 42\n")
    ask = "import here, sys; print(here.X, sys.prefix)"
    python = tmp_path / "opt/mendel/bin/python3"
    done = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True, env={})
    assert done.stdout.split() == ["42", str(tmp_path / "opt/mendel")]


def test_the_bytes_of_a_layer_do_not_depend_on_the_zip(make_wheel: MakeWheel) -> None:
    """The same files, zipped in another order, at another time and level, give the same entries but for nothing."""
    files = {"pkg/a.py": b"a" * 3000, "pkg/b.py": b"b"}
    one = make_wheel("pkg", files)
    other = make_wheel("pkg", dict(reversed(files.items())), folder="other")

    def listed(wheel: Path) -> set[WheelFile | tuple[str, bytes]]:
        return {(path, content) for path, (content, _) in read(wheel).items()}

    assert listed(one) == listed(other)
