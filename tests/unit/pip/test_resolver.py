"""Which wheels pip chooses for a base."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mendel.adapters.pip import CachedWheels, Pip, PipResolver
from mendel.errors import BuildRefused, ProgramFailed, Unsupported
from mendel.images import Platform
from support.programs import other_python


@pytest.fixture
def resolver(wheels: CachedWheels) -> PipResolver:
    return PipResolver(wheels)


def names(pins):
    return [f"{pin.name}=={pin.version}" for pin in pins]


def test_pins_are_by_content_and_sorted(resolver, add_wheel, at, wheels):
    """A pin has the digest and size of the wheel, which then is at hand."""
    expected = [add_wheel("inner", "1.0"), add_wheel("outer", "2.0", "inner>=1")]
    found = resolver.resolve(["outer"], **at)
    assert list(found) == expected
    assert wheels.path(found[0]).is_file()


@pytest.mark.parametrize(
    "case",
    [
        ("3.11", "linux/amd64", ["backport==1.0", "top==1.0"]),
        ("3.13", "linux/amd64", ["modern==1.0", "top==1.0"]),
        ("3.11", "linux/arm64", ["backport==1.0", "onlyarm==1.0", "top==1.0"]),
    ],
)
def test_markers_are_judged_for_the_base(resolver, add_wheel, base, case):
    """What a marker says of Python or processor is asked of the base, never of the interpreter that runs pip."""
    for name in ("backport", "modern", "onlyarm", "elsewhere"):
        add_wheel(name, "1.0")
    add_wheel(
        *("top", "1.0", 'backport; python_version < "3.12"', 'modern; python_version >= "3.13"'),
        *('onlyarm; platform_machine == "aarch64"', 'elsewhere; sys_platform == "win32"'),
    )
    python, platform, expected = case
    there = replace(base, python=python)
    assert names(resolver.resolve(["top"], base=there, platform=Platform.parse(platform))) == expected


def test_the_newest_wheel_that_the_c_library_carries_is_chosen(resolver, add_wheel, at):
    """A wheel for a newer glibc than the base's, or another processor, is passed over."""
    add_wheel("fast", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64")
    add_wheel("fast", "2.0", tag="cp311-cp311-manylinux_2_38_x86_64")
    add_wheel("fast", "3.0", tag="cp311-cp311-manylinux_2_17_aarch64")
    add_wheel("fast", "4.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    assert names(resolver.resolve(["fast"], **at)) == ["fast==1.0"]


def test_sources_alone_are_refused_by_name(resolver, add_wheel, add_sources, at):
    """A distribution without wheels would be built on this machine; it is named, and what could install it."""
    add_sources("rough", "1.0")
    with pytest.raises(BuildRefused) as refused:
        resolver.resolve(["rough"], **at)
    assert refused.value.reasons == ("rough: there are only sources, or wheels for others",)
    assert "--engine docker" in refused.value.remedy
    assert "Python 3.11 on linux/amd64 with glibc 2.36" in refused.value.message


def test_what_no_index_has_is_refused_by_name(resolver, index, at):
    """A name that nobody has is told from one that has sources only."""
    with pytest.raises(BuildRefused) as refused:
        resolver.resolve(["nonesuch>=1"], **at)
    assert refused.value.reasons == ("nonesuch>=1: no index has it",)


def test_requirements_that_contradict_are_refused_with_who_asked(resolver, add_wheel, at):
    """The reasons are the lines that stand against each other."""
    add_wheel("inner", "1.0")
    add_wheel("inner", "2.0")
    add_wheel("outer", "1.0", "inner>=2")
    with pytest.raises(BuildRefused) as refused:
        resolver.resolve(["outer", "inner<2"], **at)
    assert any("outer 1.0 depends on inner>=2" in reason for reason in refused.value.reasons)


def test_constraints_bound_what_is_not_required(resolver, add_wheel, at):
    """A constraint chooses among versions and adds nothing."""
    for version in ("1.0", "2.0"):
        add_wheel("inner", version)
    add_wheel("outer", "1.0", "inner")
    add_wheel("unused", "1.0")
    found = resolver.resolve(["outer"], **at, constraints=["inner<2", "unused<1"])
    assert names(found) == ["inner==1.0", "outer==1.0"]


def test_preferred_versions_are_kept_until_they_stand_in_the_way(resolver, add_wheel, at):
    """A newer version on the index moves nothing; a requirement that excludes a kept one moves that one only."""
    kept = [add_wheel("inner", "1.0"), add_wheel("other", "1.0")]
    add_wheel("inner", "2.0")
    add_wheel("other", "2.0")
    assert list(resolver.resolve(["inner", "other"], **at, prefer=kept)) == kept
    moved = resolver.resolve(["inner>=2", "other"], **at, prefer=kept)
    assert names(moved) == ["inner==2.0", "other==1.0"]
    add_wheel("outer", "1.0", "other>=2")
    moved = resolver.resolve(["inner", "other", "outer"], **at, prefer=kept)
    assert names(moved) == ["inner==1.0", "other==2.0", "outer==1.0"]


def test_a_preferred_version_that_vanished_is_replaced(resolver, add_wheel, at, index):
    """A version that is no longer there is let go; what else was kept stays."""
    kept = [add_wheel("inner", "1.0"), add_wheel("other", "1.0")]
    add_wheel("other", "2.0")
    add_wheel("inner", "2.0")
    (index / kept[0].filename).unlink()
    assert names(resolver.resolve(["inner", "other"], **at, prefer=kept)) == [
        "inner==2.0",
        "other==1.0",
    ]


def test_nothing_of_the_asking_environment_counts(resolver, add_wheel, at):
    """What is installed here is not taken for installed there."""
    expected = add_wheel("pytest", "0.0.1")
    assert list(resolver.resolve(["pytest"], **at)) == [expected]


def test_an_index_that_does_not_answer_is_no_refusal(wheels, index, at, monkeypatch):
    """A machine that is offline says so, with the end of pip's log."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ProgramFailed, match="reach an index") as failed:
        PipResolver(wheels).resolve(["inner"], **at)
    assert "secret" not in failed.value.log_tail


def test_an_index_that_tells_no_digests_is_hashed_here(wheels, index, add_wheel, at, monkeypatch):
    """Plain pages of links, as many private indexes give them, are pinned by content all the same."""
    expected = add_wheel("inner", "1.0+local")
    page = index / "simple" / "inner"
    page.mkdir(parents=True)
    (page / "index.html").write_text(
        "<a href='../../inner-1.0%2Blocal-py3-none-any.whl'>inner-1.0+local-py3-none-any.whl</a>"
    )
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    with _served(index) as port:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
        assert PipResolver(wheels).resolve(["inner"], **at) == (expected,)


@contextmanager
def _served(directory: Path) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_without_pip_it_says_how_to_get_it(wheels, at, monkeypatch):
    """The extra is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(Unsupported, match=r"mendel\[build\]"):
        PipResolver(wheels).resolve(["inner"], **at)


@pytest.mark.parametrize("minor", ["3.12", "3.13"])
def test_another_python_resolves_alike(minor, tmp_path, add_wheel, at):
    """Another Python's pip pins the same wheels for one base, markers included."""
    python = other_python(minor, asked=("-m", "pip", "-V"))
    add_wheel("backport", "1.0")
    add_wheel("top", "1.0", 'backport; python_version < "3.12"')
    add_wheel("fast", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    add_wheel("fast", "2.0", tag=f"cp{minor.replace('.', '')}-cp{minor.replace('.', '')}-manylinux_2_17_x86_64")
    found = [
        PipResolver(CachedWheels(tmp_path / "own" / version, pip=Pip(python=each)), pip=Pip(python=each)).resolve(
            ["top", "fast"], **at
        )
        for version, each in (("here", sys.executable), (minor, python))
    ]
    assert found[0] == found[1]
    assert names(found[1]) == ["backport==1.0", "fast==1.0", "top==1.0"]
