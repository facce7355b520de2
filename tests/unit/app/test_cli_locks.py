"""`mendel lock` and `mendel base` as they are called: what is wrong usage, and where things go."""

from __future__ import annotations

import json
import os
import stat
import tarfile

import pytest

from mendel.adapters.oci.layout.layout import Layout

PROJECT = "classifier: {name: toy}\npredictor: {module: model, class_name: Toy}\n"


@pytest.fixture
def project(tmp_path):
    """A project that was never locked."""
    root = tmp_path / "mein Projekt"
    (root / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "mlserver.yaml").write_text(PROJECT)
    return root


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A program in the place of mmdebstrap that unpacks one file."""
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "packed").write_text("x")
    with tarfile.open(tmp_path / "packages.tar", "w") as archive:
        archive.add(tmp_path / "usr", "./usr")
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    copy = f"case $word in *.tar) cp '{tmp_path / 'packages.tar'}' \"$word\";; esac"
    program.write_text(f'#!/bin/sh\nfor word in "$@"; do {copy}; done\n')
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lock", "--platform", "solaris/sparc"], "The platform 'solaris/sparc' is not supported"),
        (["lock", "--check", "--upgrade"], "--check cannot be combined"),
        (["lock", "--check", "--vendor"], "--check cannot be combined"),
        (["base", "--platform", "sparc"], "The platform 'sparc' is not supported"),
        (["base", "--mode", "chrootless"], "'chrootless' is not a mode of mmdebstrap"),
        (["base", "--suite", "-x"], "'-x' is not a valid name of a Debian package"),
        (["base", "--include", "a b"], "'a b' is not a valid name of a Debian package"),
    ],
)
def test_a_value_that_a_flag_cannot_have_is_wrong_usage(mendel, project, words, said):
    """It ends with 2, before anything is asked or made."""
    refused = mendel(*words, "--path", project)
    assert (refused.code, refused.out) == (2, "")
    assert said in " ".join(refused.err.split())
    assert sorted(path.name for path in project.iterdir()) == [".git", "deep", "mlserver.yaml"]


def test_a_project_without_a_lock_is_told_what_makes_one(mendel, project):
    """--check of nothing is a refusal with the command to run."""
    said = mendel("lock", "--check", "--path", project)
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1].strip() == "Run: mendel lock"


@pytest.mark.usefixtures("packages")
def test_a_base_goes_to_the_project_that_is_named(mendel, project):
    """From any directory, --path says whose base it is, and the reference to write is relative to it."""
    said = mendel("base", "--path", project / "deep", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert told["base_image"] == "oci:.mendel/base"
    found = Layout(project / ".mendel" / "base").find("base")
    assert found is not None
    assert found.digest == told["made"]["digest"]
    again = mendel("base", "--path", project)
    assert "base_image: oci:.mendel/base" in again.out
    assert again.err.splitlines() == [
        "Making a base ...",
        "Unpacking Debian packages of bookworm for linux/amd64 ...",
        "Packing the layer for linux/amd64 ...",
    ]


def test_a_base_for_a_project_that_is_not_there(mendel, tmp_path):
    """A path that is given and has no project is an error that names it."""
    said = mendel("base", "--path", tmp_path / "nowhere")
    assert (said.code, said.out) == (1, "")
    assert f"{tmp_path / 'nowhere'} does not exist" in said.err
