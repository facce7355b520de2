"""A base image of an older Debian release on a newer one, with a program in the place of mmdebstrap."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from mendel.adapters.debian import BaseRecipe, unpacked_root
from mendel.errors import ProgramFailed
from mendel.images import Platform

AMD = Platform.parse("linux/amd64")
SOURCES = """\
deb http://bookworm.example.org/debian-updates bookworm main
deb [ signed-by=/usr/share/bookworm.gpg ] http://example.org/bookworm bookworm-security main
deb http://example.org/debian bookworm-updates main
"""
OLD = """\
deb http://bookworm.example.org/debian-updates bullseye main
deb [ signed-by=/usr/share/bookworm.gpg ] http://example.org/bookworm bullseye-security main
"""
PROGRAM = """\
#!/bin/sh
for word in "$@"; do case $word in
    --setup-hook=*) sh -c "${{word#--setup-hook=}}" exec '{root}' || exit 1;;
    *.tar) cp '{packed}' "$word";;
esac; done
"""


@pytest.fixture
def program(tmp_path):
    """Give a program that runs the setup hook over the sources, and packs an empty file of the name."""

    def make(name: str) -> Path:
        packed, program = tmp_path / "packed.tar", tmp_path / "mmdebstrap"
        with tarfile.open(packed, "w") as archive:
            archive.addfile(tarfile.TarInfo(f"./{name}"))
        program.write_text(PROGRAM.format(root=tmp_path, packed=packed))
        program.chmod(0o755)
        for directory in ("sources.list.d", "preferences.d"):
            (tmp_path / "etc" / "apt" / directory).mkdir(parents=True)
        return program

    return make


def make(program: Path) -> None:
    with unpacked_root(BaseRecipe(platforms=(AMD,), suite="bullseye"), AMD, program=str(program)):
        pass


def test_the_older_release_comes_from_the_same_mirrors(program, tmp_path):
    """Only the field of the release changes, not the names of mirrors; updates are left out."""
    fake = program("usr/bin/python3.9")
    (tmp_path / "etc" / "apt" / "sources.list").write_text(SOURCES)
    make(fake)
    assert (tmp_path / "etc" / "apt" / "sources.list.d" / "old.list").read_text() == OLD
    assert "Pin: release n=bullseye" in (tmp_path / "etc" / "apt" / "preferences.d" / "python").read_text()


@pytest.mark.parametrize("sources", [None, "", "deb http://example.org/bookworm trixie main\n"])
def test_sources_without_the_newer_release_make_no_image(program, tmp_path, sources):
    """The program fails instead of making a base image without the old Python."""
    fake = program("usr/bin/python3.9")
    if sources is not None:
        (tmp_path / "etc" / "apt" / "sources.list").write_text(sources)
    with pytest.raises(ProgramFailed, match="could not make a base image of Debian bullseye"):
        make(fake)


def test_a_base_image_without_the_old_python_is_refused(program, tmp_path):
    """The packed root is examined, whatever the package manager chose."""
    fake = program("usr/bin/python3.11")
    (tmp_path / "etc" / "apt" / "sources.list").write_text(SOURCES)
    with pytest.raises(ProgramFailed, match=r"without python3\.9"):
        make(fake)
