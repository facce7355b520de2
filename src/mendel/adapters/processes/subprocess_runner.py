"""A runner with subprocesses of this machine, in the environment of a release's lock or of this interpreter."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Protocol

from mendel.adapters.processes.exit_codes import exit_text
from mendel.adapters.processes.runner_child import OUT_OF_MEMORY
from mendel.errors import RunnerFailed, RunnerLimit
from mendel.projects import Git
from mendel.retraining import (
    CodeSource,
    Limits,
    LoadJob,
    LoadResult,
    OnProgress,
    ParityJob,
    Progress,
    ReplayJob,
    ReplayResult,
    Runner,
    TrainJob,
    TrainResult,
    ignore_progress,
)
from mendel.retraining.job_orders import (
    ORDER_FILE,
    JobOrder,
    JobOutcome,
    begin,
    finished,
    job_failed,
    load_order,
    load_result,
    log_file,
    memory_exceeded,
    parity_order,
    replay_order,
    replay_result,
    time_exceeded,
    train_order,
    train_result,
)
from mendel.values import from_json
from mendel.values.parity import ParityReport


class JobEnvironments(Protocol):
    """Gives the interpreters of jobs; None means the interpreter of Mendel."""

    def of_project(self, project: Path, classifier: str, *, locked: bool | None) -> str | None:
        """
        Give the interpreter with the packages of the lock of *project*, and make the environment if it is absent.

        Args:
            locked: False means the packages of Mendel; None those of the lock if this machine can provide them.

        Raises:
            NeedsNewImage: *locked* is True, and this machine cannot provide the packages.
            MendelError: A package cannot be fetched or unpacked.
        """

    def of_artifacts(self, artifacts: Sequence[Path]) -> str | None:
        """
        Give the interpreter with the packages of all the *artifacts*, and make the environment if it is absent.

        Raises:
            NeedsNewImage: This machine cannot provide the packages, or two artefacts need different packages.
            MendelError: A package cannot be fetched or unpacked.
        """


_HOME = "home"
_CHILD = "mendel.adapters.processes.runner_child"
_START = (
    "import os, runpy, sys; sys.path += sys.argv.pop(1).split(os.pathsep); "
    f"runpy.run_module({_CHILD!r}, run_name='__main__', alter_sys=True)"
)
"""Starts a job in another environment: its packages first, then Mendel and what Mendel needs."""
_LANGUAGE = {"LANG", "LC_ALL", "LC_CTYPE", "TZ"}
_THREADS = {"MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
_PASSED = _LANGUAGE | _THREADS | {"LD_LIBRARY_PATH", "PATH", "TMPDIR", "VIRTUAL_ENV"}
_SOURCE = Path(__file__).parents[3]  # the directory of the package mendel
_POLL_SECONDS = 0.1
_TIMED_OUT = -1000
_SIGNALLED = 128  # exit statuses above 128 are 128 plus a signal number, as in shells
_TAIL_BYTES = 4096
_MEMORY_WORDS = ("MemoryError", "Cannot allocate memory", "std::bad_alloc", "malloc failed", "memory allocation")


class SubprocessRunner(Runner):
    """
    Implements :class:`mendel.retraining.Runner`: exports each commit once; each job is a process group.

    The job sees the exported project, which is its working directory, a list of environment variables, a home directory
    of its own, and its files. Memory is limited per process, time for the whole group. The group is
    killed when the job ends, however it ends, and when this process dies.

    Args:
        git: The port that exports releases.
        cache: The directory of exported commits; kept between runs.
        pass_environment: Names of further environment variables that jobs may see, such as credentials of ``load``.
        environments: Give the interpreters of jobs; None runs every job with this interpreter. Mendel's own modules
            come after the packages of another interpreter.
    """

    def __init__(
        self,
        git: Git,
        cache: Path,
        *,
        pass_environment: tuple[str, ...] = (),
        environments: JobEnvironments | None = None,
    ) -> None:
        self._git = git
        self._cache = cache
        self._passed = _PASSED | set(pass_environment)
        self._environments = environments

    def load(self, job: LoadJob, on_progress: OnProgress = ignore_progress) -> LoadResult:
        order = load_order(job, self._exported(job.source))
        return load_result(job, self._outcome(order, job.limits, on_progress, locked=job.source.locked))

    def train(self, job: TrainJob, on_progress: OnProgress = ignore_progress) -> TrainResult:
        order = train_order(job, self._exported(job.source))
        return train_result(job, self._outcome(order, job.limits, on_progress, locked=job.source.locked))

    def replay(self, job: ReplayJob, on_progress: OnProgress = ignore_progress) -> ReplayResult:
        order = replay_order(job, None if job.source is None else self._exported(job.source))
        return replay_result(job, self._outcome(order, job.limits, on_progress))

    def check_parity(self, job: ParityJob, on_progress: OnProgress = ignore_progress) -> ParityReport:
        order = parity_order(job, None if job.source is None else self._exported(job.source))
        return self._outcome(order, job.limits, on_progress).parity[0]

    def _outcome(
        self, order: JobOrder, limits: Limits, on_progress: OnProgress, *, locked: bool | None = None
    ) -> JobOutcome:
        if (former := finished(order)) is not None:
            return former
        python = self._python(order, locked=locked)
        order = replace(order, locked=python is not None)
        begin(order)
        output = Path(order.output)
        home = output / _HOME  # below the output directory, which is deleted with the job's files
        home.mkdir()
        project = home if order.project is None else Path(order.project)
        environment = self._environment(order, str(home))
        command = [sys.executable, "-P", "-m", _CHILD] if python is None else [python, "-P", "-c", _START, _own_paths()]
        code = self._run(command, output, project, environment, limits, on_progress)
        shutil.rmtree(home, ignore_errors=True)
        found = finished(order)
        if code or found is None:
            raise _fault(order, code, limits, log_file(output))
        return found

    def _python(self, order: JobOrder, *, locked: bool | None) -> str | None:
        if self._environments is None:
            return None
        if order.artifacts:
            return self._environments.of_artifacts([Path(artifact) for artifact in order.artifacts])
        return self._environments.of_project(Path(order.project or ""), order.classifier, locked=locked)

    def _exported(self, source: CodeSource) -> Path:
        """The project's directory in the export of its commit; the first call makes the export."""
        commit = self._git.resolve(source.project, source.revision)
        tree = self._git.work_tree(source.project)
        place = self._cache.absolute() / commit
        if not place.is_dir():
            self._cache.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{commit}-", dir=self._cache))
            self._git.export(source.project, commit, unfinished)
            try:
                unfinished.rename(place)
            except OSError:  # another thread made the same export first
                shutil.rmtree(unfinished)
        return place if tree is None else place / tree.prefix

    def _run(  # noqa: PLR0917 - what runs, where, and within which limits
        self,
        command: list[str],
        output: Path,
        project: Path,
        environment: dict[str, str],
        limits: Limits,
        on_progress: OnProgress,
    ) -> int:
        deadline = time.monotonic() + limits.time.total_seconds()
        with _pipe() as (lifeline, _held), _pipe() as (heard, told), log_file(output).open("wb") as log:
            ends = (lifeline.fileno(), told.fileno())
            child = subprocess.Popen(  # noqa: S603 - our own module, a list of arguments
                [*command, str(output / ORDER_FILE), *map(str, ends)],
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=ends,
                start_new_session=True,
            )
            told.close()
            try:
                _follow(child.pid, heard, deadline, on_progress)
            finally:
                timely = _ended(child.pid)
                _kill_group(child.pid)
                code = child.wait()
        return code if timely else _TIMED_OUT

    def _environment(self, order: JobOrder, home: str) -> dict[str, str]:
        """The job's environment. A replay gets one thread: more would add waits for a busy core to each timing."""
        alone = dict.fromkeys(_THREADS, "1") if order.kind == "replay" else {}
        passed = alone | {name: value for name, value in os.environ.items() if name in self._passed}
        own = {"HOME": home, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        return {**passed, **own, "PYTHONUNBUFFERED": "1"}


def _own_paths() -> str:
    """Give the directories of Mendel and of its packages, for an interpreter of another environment."""
    packages = (place for place in sys.path if Path(place).name in {"site-packages", "dist-packages"})
    return os.pathsep.join(dict.fromkeys((str(_SOURCE), *packages)))


def _follow(pid: int, heard: FileIO, deadline: float, on_progress: OnProgress) -> None:
    """Pass on the job's progress until the job ends or its time is over."""
    rest, told = b"", b"-"
    while not _ended(pid) and (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([heard] if told else [], [], [], min(left, _POLL_SECONDS))
        if not ready:
            continue
        told = heard.read(1 << 16)
        *lines, rest = (rest + told).split(b"\n")
        for line in lines:
            on_progress(from_json(line, Progress))


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    """Kill the processes left of the job; its first process is not yet reaped, so no other group has its id."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # no process is left; macOS raises PermissionError for this
        return


def _fault(order: JobOrder, code: int, limits: Limits, log: Path) -> RunnerFailed | RunnerLimit:
    tail = _tail(log)
    if code == _TIMED_OUT:
        return time_exceeded(order, limits, tail)
    if code == OUT_OF_MEMORY or (code and any(word in tail for word in _MEMORY_WORDS)):
        return memory_exceeded(order, tail)
    ended = _SIGNALLED - code if code > _SIGNALLED else code
    return job_failed(order, f"with {exit_text(ended)}", tail, log)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    reading, writing = os.pipe()
    with FileIO(reading, "rb") as one, FileIO(writing, "wb") as other:
        yield one, other
