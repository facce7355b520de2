"""Wheels by content: project, cache, index."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import replace

import pytest

from mendel.adapters.pip import CachedWheels
from mendel.errors import DigestMismatch, StoreUnavailable, WheelNotFound
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


def test_the_projects_own_wheels_come_first(wheels, add_wheel, at, index, tmp_path):
    """A committed wheel needs neither cache nor index."""
    pin = add_wheel("one", "1.0")
    own = tmp_path / "project" / "mlserver.wheels"
    own.mkdir(parents=True)
    shutil.move(index / pin.filename, own)
    assert fetch(wheels, [pin], at) == []
    assert wheels.path(pin) == own / pin.filename


def test_a_wheel_that_vanished_is_named(wheels, add_wheel, at, index, tmp_path):
    """When the index no longer has one of two, the error names it, and no half of the two is lost for good."""
    there, gone = add_wheel("there", "1.0"), add_wheel("gone", "1.0")
    (index / gone.filename).unlink()
    with pytest.raises(WheelNotFound, match=r"gone-1\.0.*no index has it") as missing:
        fetch(wheels, [there, gone], at)
    assert "mendel lock --vendor" in missing.value.remedy
    assert cached(tmp_path) == []


def test_other_content_under_the_same_name_is_refused(wheels, add_wheel, at, tmp_path):
    """An index that changed a wheel in place is found out, and nothing of it is kept."""
    pin = add_wheel("one", "1.0")
    add_wheel("one", "1.0", content="changed")
    with pytest.raises(DigestMismatch, match=r"one 1\.0"):
        fetch(wheels, [pin], at)
    assert cached(tmp_path) == []


def test_a_damaged_file_is_found_out_when_it_is_used(wheels, add_wheel, at):
    """Bits that changed on the disk are not handed out."""
    pin = add_wheel("one", "1.0")
    fetch(wheels, [pin], at)
    wheels.path(pin).write_bytes(b"x" * pin.size_bytes)
    with pytest.raises(DigestMismatch, match="does not have the content"):
        wheels.path(pin)


def test_a_truncated_file_is_fetched_again(wheels, add_wheel, at):
    """A file of another size counts as missing, and what comes takes its place."""
    pin = add_wheel("one", "1.0")
    fetch(wheels, [pin], at)
    wheels.path(pin).write_bytes(b"half")
    fetch(wheels, [pin], at)
    assert wheels.path(pin).stat().st_size == pin.size_bytes


def test_without_a_network_the_error_says_so(add_wheel, at, tmp_path, monkeypatch):
    """Nobody answering is told from nobody having it."""
    pin = add_wheel("one", "1.0")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(WheelNotFound, match="no index answered"):
        fetch(CachedWheels(tmp_path / "cache"), [pin], at)


def test_a_pin_nobody_has_is_not_found(wheels, add_wheel):
    """Asking for a path fetches nothing."""
    pin = add_wheel("one", "1.0")
    with pytest.raises(WheelNotFound, match="neither in the project nor in the cache"):
        wheels.path(pin)


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
    with pytest.raises(DigestMismatch, match="other content"):
        wheels.keep(index / pin.filename, replace(pin, sha256=Digest(f"sha256:{'1' * 64}")))


def test_a_cache_that_cannot_be_is_said_plainly(tmp_path):
    """A file where the cache should be is an error with a remedy, not a traceback."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="MENDEL_CACHE"), CachedWheels(tmp_path / "file" / "cache").unfinished():
        pass
