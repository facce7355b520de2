"""Wheels by content: project, cache, index."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import replace

import pytest

from mendel.adapters.pip import CachedWheels
from mendel.errors import DigestMismatch, StoreUnavailable
from mendel.images import TaskProgress
from mendel.values import Digest


def fetch(wheels, pins, at):
    said: list[TaskProgress] = []
    wheels.fetch(pins, **at, on_progress=said.append)
    return said


def cached(tmp_path):
    """What has a name in the cache."""
    return sorted(path.relative_to(tmp_path / "cache").as_posix() for path in (tmp_path / "cache").rglob("*.whl"))


def test_what_is_missing_is_fetched_once_and_kept_by_content(wheels, add_wheel, at, index, tmp_path):
    """Two wheels come with one program, are named by their digests, and stay when the index is gone."""
    pins = [add_wheel("one", "1.0"), add_wheel("two-parts", "2.0")]
    said = fetch(wheels, pins, at)
    assert said[-1].done == said[-1].total == sum(pin.size_bytes for pin in pins)
    assert cached(tmp_path) == sorted(f"{pin.sha256.removeprefix('sha256:')}/{pin.filename}" for pin in pins)
    shutil.rmtree(index)
    assert fetch(wheels, pins, at) == []
    assert wheels.path(pins[0]).name == pins[0].filename


def test_what_a_killed_fetch_left_is_removed_and_a_running_one_is_not(wheels, tmp_path):
    """Directories of unfinished work vanish with the next fetch, unless their owner is at work."""
    left, running = tmp_path / "cache" / ".fetching-left", tmp_path / "cache" / ".fetching-running"
    for directory in (left, running):
        directory.mkdir(parents=True)
        (directory / "half.whl").write_bytes(b"half")
    held = os.open(running, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with wheels.unfinished() as own:
            assert own.is_dir()
    finally:
        os.close(held)
    assert not left.exists()
    assert running.exists()
    assert not own.exists()


def test_an_interrupt_leaves_nothing_named(wheels, add_wheel, at, tmp_path):
    """Ctrl-C while wheels arrive leaves an empty cache and no child."""
    pin = add_wheel("one", "1.0")

    def interrupt(progress: TaskProgress) -> None:
        if progress.doing.startswith("Fetching:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wheels.fetch([pin], **at, on_progress=interrupt)
    assert list((tmp_path / "cache").iterdir()) == []


def test_keeping_checks_the_content(wheels, add_wheel, index):
    """A file that is not what was pinned gets no name."""
    pin = add_wheel("one", "1.0")
    with pytest.raises(DigestMismatch, match=r"does not have the content that mlserver\.lock pins"):
        wheels.keep(index / pin.filename, replace(pin, sha256=Digest(f"sha256:{'1' * 64}")))


def test_a_cache_that_cannot_be_is_said_plainly(tmp_path):
    """A file where the cache should be is an error with a remedy, not a traceback."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="MENDEL_CACHE"), CachedWheels(tmp_path / "file" / "cache").unfinished():
        pass
