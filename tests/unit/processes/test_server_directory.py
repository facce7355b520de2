"""A server's own directory."""

import os
from datetime import timedelta

import pytest

from mendel.adapters.processes.server_directory import lock_directory, run_directory, server_id
from mendel.errors import DirectoryInUse

SHORT = timedelta(milliseconds=60)


async def test_one_server_per_directory(tmp_path):
    """Who comes second is told, and may enter when the first is gone."""
    lock = await lock_directory(tmp_path, within=SHORT)
    with pytest.raises(DirectoryInUse, match="already uses"):
        await lock_directory(tmp_path, within=SHORT)
    os.close(lock)
    os.close(await lock_directory(tmp_path, within=SHORT))


async def test_a_worker_that_inherited_the_lock_holds_it(tmp_path):
    """A copy of the descriptor, as a worker has one, keeps the directory until it is closed too."""
    lock = await lock_directory(tmp_path, within=SHORT)
    inherited = os.dup(lock)
    os.close(lock)
    with pytest.raises(DirectoryInUse):
        await lock_directory(tmp_path, within=SHORT)
    os.close(inherited)
    os.close(await lock_directory(tmp_path, within=SHORT))


def test_the_id_stays(tmp_path):
    """A server has one id over all its starts."""
    assert server_id(tmp_path, lambda: "a") == server_id(tmp_path, lambda: "b") == "server-a"


@pytest.mark.parametrize("depth", [0, 12])
def test_the_run_directory_is_empty_short_and_goes(tmp_path, depth):
    """Local sockets fit into it however deep the server's directory lies, and a killed server's leftovers go."""
    directory = tmp_path.joinpath(*["deep-enough"] * depth)
    directory.mkdir(parents=True, exist_ok=True)
    killed = run_directory(directory)
    left = killed.__enter__()
    (left / "leftover").touch()
    with run_directory(directory) as run:
        assert list(run.iterdir()) == []
        assert len(str(run)) <= 90
        assert not (left / "leftover").exists()
    assert not run.exists()
    assert not (directory / "run").is_symlink()
