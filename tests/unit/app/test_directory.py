"""The data directory: one owner, an address that can be trusted, files replaced whole."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading

import pytest

from mendel.app.directory import DataDirectory, HubAddress
from mendel.errors import DataDirectoryNotFound, DirectoryInUse, InvalidSettings
from mendel.values.atomic_files import write_atomically


@pytest.fixture
def data(tmp_path):
    return DataDirectory(tmp_path / ".mendel")


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def here(url="http://127.0.0.1:1"):
    return HubAddress(url=url, pid=os.getpid())


def test_a_directory_without_data_is_named(data, tmp_path):
    """A directory that was never used is an error that names it, and the data directory above it; nothing is made."""
    below = DataDirectory(tmp_path / "below" / ".mendel")
    data.create()
    data.database.touch()
    data.require()
    with pytest.raises(DataDirectoryNotFound, match=str(below.root)) as refused:
        below.require()
    assert f"--directory {data.root}" in refused.value.remedy
    assert not below.root.exists()


def test_the_holder_of_up_is_known_while_it_runs(data):
    """The process id in ``up.lock`` counts only while the lock is held."""
    data.create()
    assert data.up_pid() is None
    with data.up_lock.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (data.up_runs(), data.up_pid()) == (True, None)
        lock.write("4711")
        lock.flush()
        assert (data.up_pid(), data.up_is_ready(4711)) == (4711, False)
        lock.write("\nup")
        lock.flush()
        assert (data.up_pid(), data.up_is_ready(4711), data.up_is_ready(4712)) == (4711, True, False)
    assert (data.up_runs(), data.up_pid()) == (False, None)


class TestOwning:
    def test_it_has_one_owner(self, data):
        """A second owner is refused with where the first is; afterwards it is free."""
        with data.owned():
            data.announce(here())
            with pytest.raises(DirectoryInUse, match=rf"at http://127.0.0.1:1 \(pid {os.getpid()}\)"), data.owned():
                pass
        with data.owned():
            pass

    def test_an_owner_that_has_not_said_where_it_is_still_owns(self, data):
        """Between taking and announcing, nobody else gets in."""
        with (
            data.owned(),
            pytest.raises(DirectoryInUse, match=r"already runs on the data directory [^ ]+\. Stop the other hub"),
            data.owned(),
        ):
            pass

    def test_looking_does_not_keep_an_owner_out(self, data):
        """Whoever looks whether a hub runs touches the lock for an instant; taking it survives that."""
        with data.owned():
            data.announce(here())
        stop = threading.Event()

        def look():
            while not stop.is_set():
                data.hub()

        lookers = [threading.Thread(target=look) for _ in range(4)]
        for one in lookers:
            one.start()
        try:
            for _ in range(100):
                with data.owned():
                    data.announce(here())
        finally:
            stop.set()
            for one in lookers:
                one.join()

    def test_it_is_for_its_owner_only(self, data):
        """The directory is made with mode 0700."""
        data.create()
        assert data.root.stat().st_mode & 0o777 == 0o700

    def test_where_none_can_be_made_is_told(self, tmp_path):
        """A path below a file is InvalidSettings with what to choose."""
        (tmp_path / "file").write_text("x")
        with pytest.raises(InvalidSettings, match="cannot be created"):
            DataDirectory(tmp_path / "file" / ".mendel").create()


class TestAddress:
    def test_only_an_owner_has_an_address(self, data):
        """No directory, no hub.json, nobody holding the lock: no hub."""
        assert data.hub() is None
        with data.owned():
            assert data.hub() is None
            data.announce(here())
            assert data.hub() == here()
        assert data.hub() is None

    def test_what_a_killed_hub_left_counts_for_nothing(self, data, dead_pid):
        """A stale hub.json is not believed, and not by a successor that has not announced itself yet either."""
        data.create()
        data.announce(HubAddress(url="http://127.0.0.1:9", pid=dead_pid))
        assert data.hub() is None
        data.announce(HubAddress(url="http://127.0.0.1:9", pid=os.getpid()))  # its number was given out again
        assert data.hub() is None
        with data.owned():
            assert data.hub() is None

    def test_ports_are_those_of_a_living_server(self, data, dead_pid):
        """server.json of a dead server tells no ports."""
        assert data.server_ports() == {}
        data.server.mkdir(parents=True)
        for pid, ports in ((os.getpid(), {"rest": [8008]}), (dead_pid, {})):
            write_atomically(data.server / "server.json", f'{{"pid": {pid}, "ports": {{"rest": [8008]}}}}'.encode())
            assert data.server_ports() == ports
