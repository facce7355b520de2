"""The contract of Wheels, over memory and pip."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mendel.adapters.memory.wheels import MemoryWheels
from mendel.adapters.pip import CachedWheels
from mendel.errors import DigestMismatch, WheelNotFound
from mendel.images import TaskProgress, Wheels
from mendel.values.directory_trees import file_digest

from .conftest import Index, OfflineMemoryIndex


@pytest.fixture(params=["memory", "pip"])
def index(request: pytest.FixtureRequest) -> Index:
    return OfflineMemoryIndex() if request.param == "memory" else request.getfixturevalue("pip_index")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's directory of committed wheels."""
    directory = tmp_path / "mlserver.wheels"
    directory.mkdir()
    return directory


@pytest.fixture
def wheels(index: Index, project: Path, tmp_path: Path) -> Wheels:
    if isinstance(index, OfflineMemoryIndex):
        return MemoryWheels(index, tmp_path / "cache", project=project)
    return CachedWheels(tmp_path / "cache", project=project)


def fetch(wheels, pins, at):
    told: list[TaskProgress] = []
    wheels.fetch(pins, **at, on_progress=told.append)
    return told


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_what_is_missing_is_fetched_once(wheels, index, add, at):
    """Two wheels arrive with their pinned content; afterwards neither index nor network is asked."""
    pins = [add("one", "1.0"), add("two-parts", "2.0")]
    told = fetch(wheels, [*pins, pins[0]], at)
    assert told[-1].done == told[-1].total == sum(pin.size_bytes for pin in pins)
    assert [one.done for one in told] == sorted(one.done for one in told)
    for pin in pins:
        path = wheels.path(pin)
        assert (path.name, file_digest(path)) == (pin.filename, pin.sha256)
    index.go_offline()
    assert fetch(wheels, pins, at) == []
    assert fetch(wheels, [], at) == []


def test_a_path_fetches_nothing(wheels, add, tmp_path):
    """A wheel that the index has and nobody fetched has no path."""
    pin = add("one", "1.0")
    with pytest.raises(WheelNotFound, match=r"neither in mlserver\.wheels/ nor in the cache"):
        wheels.path(pin)
    assert files_in(tmp_path / "cache") == []


def test_the_projects_own_wheels_come_first(wheels, index, add, at, project):
    """A committed wheel needs neither cache nor index, and its directory is only read."""
    pin = add("one", "1.0")
    fetch(wheels, [pin], at)
    own = project / pin.filename
    own.write_bytes(wheels.path(pin).read_bytes())
    index.go_offline()
    assert wheels.path(pin) == own
    assert fetch(wheels, [pin], at) == []
    assert files_in(project) == [own]


def test_a_wheel_that_was_withdrawn(wheels, index, add, at):
    """The error names the wheel; what was fetched before stays."""
    there, gone = add("there", "1.0"), add("gone", "1.0")
    fetch(wheels, [there], at)
    index.remove(gone.filename)
    with pytest.raises(WheelNotFound, match=r"gone-1\.0"):
        fetch(wheels, [there, gone], at)
    assert wheels.path(there).is_file()
    with pytest.raises(WheelNotFound):
        wheels.path(gone)


def test_an_index_that_changed_a_wheel_in_place(wheels, add, at, tmp_path):
    """Other content under the same name is refused, and nothing of it is kept."""
    pin = add("one", "1.0")
    add("one", "1.0", files={"one.py": b"changed"})
    with pytest.raises(DigestMismatch, match=r"one 1\.0"):
        fetch(wheels, [pin], at)
    assert files_in(tmp_path / "cache") == []


def test_offline_is_told_from_withdrawn(wheels, index, add, at):
    """An index that does not answer is named as that."""
    pin = add("one", "1.0")
    index.go_offline()
    with pytest.raises(WheelNotFound, match="no package index answered"):
        fetch(wheels, [pin], at)


def test_damage_is_found_when_a_wheel_is_used(wheels, add, at):
    """Bits that changed on the disk are not handed out; a file of another size is fetched again."""
    pin = add("one", "1.0")
    fetch(wheels, [pin], at)
    path = wheels.path(pin)
    path.write_bytes(b"x" * pin.size_bytes)
    with pytest.raises(DigestMismatch):
        wheels.path(pin)
    path.write_bytes(b"half")
    fetch(wheels, [pin], at)
    assert file_digest(wheels.path(pin)) == pin.sha256


def test_an_interrupt_leaves_no_incomplete_file(wheels, add, at, tmp_path):
    """Ctrl-C while wheels arrive leaves only files that are whole."""
    pins = [add("one", "1.0"), add("two", "1.0")]

    def interrupt(told: TaskProgress) -> None:
        if told.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wheels.fetch(pins, **at, on_progress=interrupt)
    assert {file_digest(path) for path in files_in(tmp_path / "cache")} <= {pin.sha256 for pin in pins}
    fetch(wheels, pins, at)
    assert all(wheels.path(pin).is_file() for pin in pins)


def test_several_fetch_at_once(wheels, add, at):
    """Threads that want the same wheels get them, each whole."""
    pins = [add("one", "1.0"), add("two", "1.0")]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: fetch(wheels, pins, at), range(3)))
    assert [file_digest(wheels.path(pin)) for pin in pins] == [pin.sha256 for pin in pins]
