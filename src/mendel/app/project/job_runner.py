"""The runner of training jobs on this machine."""

from __future__ import annotations

from mendel.adapters.git import GitPrograms
from mendel.adapters.processes.subprocess_runner import SubprocessRunner
from mendel.app.directory import DataDirectory
from mendel.app.environment import cache_directory, system_environment
from mendel.app.images.environments import LockEnvironments
from mendel.app.settings import Settings


def subprocess_runner(settings: Settings) -> SubprocessRunner:
    """Give a runner that exports releases into the data directory, and runs their jobs with their locked packages."""
    builds = settings.serving_policy().makes_environments
    environments = LockEnvironments(lambda: cache_directory(system_environment()), builds=builds)
    releases = DataDirectory(settings.root).root / "releases"
    return SubprocessRunner(GitPrograms(), releases, environments=environments)
