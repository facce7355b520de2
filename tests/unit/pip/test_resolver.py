"""Which wheels pip chooses for a base."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mendel.adapters.pip import CachedWheels, Pip, PipResolver
from mendel.errors import ProgramFailed, Unsupported
from support.programs import other_python


@pytest.fixture
def resolver(wheels: CachedWheels) -> PipResolver:
    return PipResolver(wheels)


def names(pins):
    return [f"{pin.name}=={pin.version}" for pin in pins]


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
    with pytest.raises(ProgramFailed, match="reach a package index") as failed:
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
