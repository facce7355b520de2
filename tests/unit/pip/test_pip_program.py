"""How pip is told about a machine that is not this one."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from mendel.adapters.pip import Pip
from mendel.adapters.pip.pip_program import target_options
from mendel.images import Platform
from mendel.images.wheel_targets import marker_environment, platform_tags


def test_tags_reach_from_the_base_down_to_the_oldest():
    """A newer C library runs wheels for every older one, under their old names too, and foreign ones never."""
    tags = list(platform_tags("2.36", Platform.parse("linux/amd64")))
    assert tags[0] == "manylinux_2_36_x86_64"
    assert tags[-2:] == ["manylinux1_x86_64", "linux_x86_64"]
    assert {"manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux_2_5_x86_64"} < set(tags)
    assert "manylinux_2_37_x86_64" not in tags
    assert not any("aarch64" in tag for tag in tags)


def test_markers_are_those_of_the_base(base):
    """The environment that markers are judged by is of the base, not of this interpreter."""
    arm = marker_environment(base, Platform.parse("linux/arm64"))
    assert (arm["platform_machine"], arm["python_version"], arm["sys_platform"]) == ("aarch64", "3.11", "linux")


def test_only_wheels_are_taken(base, amd64):
    """Sources would be built by the machine that asks."""
    options = target_options(base, amd64)
    assert options[:7] == (
        *("--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
    )


def test_a_run_that_takes_too_long_is_stopped(base, amd64, index, monkeypatch, tmp_path):
    """A timeout kills pip and says so."""
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    finished = Pip(python=str(slow), timeout=timedelta(seconds=0.2)).run("download", base=base, platform=amd64)
    assert finished.late
    assert "did not end in time" in str(finished.failure("do it"))


def test_the_environment_reaches_pip_only_where_it_says_where_wheels_are(base, amd64, index, monkeypatch, tmp_path):
    """PIP_TARGET, PYTHONPATH and the like do not reach pip; where its index is does."""
    seen = tmp_path / "python"
    seen.write_text("#!/bin/sh\nenv\n")
    seen.chmod(0o755)
    for name in ("PIP_TARGET", "PIP_CONSTRAINT", "PIP_NO_BINARY", "PYTHONPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, "elsewhere")
    lines = Pip(python=str(seen)).run("download", base=base, platform=amd64).lines
    names = {line.partition("=")[0] for line in lines}
    assert "PIP_FIND_LINKS" in names
    assert not names & {"PIP_TARGET", "PIP_CONSTRAINT", "PIP_NO_BINARY", "PYTHONPATH", "PYTHONHOME"}


def test_no_credential_of_an_index_stands_in_a_log(base, amd64, index, tmp_path):
    """What pip prints is kept without user and password."""
    leaky = tmp_path / "python"
    leaky.write_text("#!/bin/sh\necho Looking in https://me:secret@host/simple\nexit 1\n")
    leaky.chmod(0o755)
    finished = Pip(python=str(leaky)).run("download", base=base, platform=amd64)
    assert finished.tail == "Looking in https://host/simple"
    assert finished.status == 1


@pytest.mark.skipif(sys.platform == "win32", reason="bases are Linux")
def test_pip_here_runs(base, amd64, index):
    """The shim reaches the pip of this interpreter."""
    assert Pip().run("index", "versions", "absent", base=base, platform=amd64, wheels_only=False).status == 1
