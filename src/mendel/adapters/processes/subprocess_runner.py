"""The ``Runner`` port with subprocesses of this machine and this interpreter's environment."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from io import FileIO
from pathlib import Path

from mendel.adapters.processes.runner_child import OUT_OF_MEMORY, Order, Outcome, predictions_file
from mendel.errors import AlreadyExists, RunnerFailed, RunnerLimit
from mendel.projects import Git
from mendel.retraining import (
    CodeSource,
    Limits,
    LoadJob,
    LoadResult,
    OnProgress,
    Progress,
    Replay,
    ReplayJob,
    ReplayResult,
    Runner,
    TrainJob,
    TrainResult,
    ignore_progress,
)
from mendel.values import from_json, render_duration, to_json
from mendel.values.directory_trees import tree_files

_ORDER, _OUTCOME, _HOME = "order.json", "outcome.json", "home"
_CHILD = "mendel.adapters.processes.runner_child"
_LANGUAGE = {"LANG", "LC_ALL", "LC_CTYPE", "TZ"}
_THREADS = {"MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
_PASSED = _LANGUAGE | _THREADS | {"LD_LIBRARY_PATH", "PATH", "TMPDIR", "VIRTUAL_ENV"}
_POLL_SECONDS = 0.1
_TIMED_OUT = -1000
_SIGNALLED = 128  # above it, as shells count, the number of a signal
_TAIL_BYTES = 4096
_MEMORY_WORDS = ("MemoryError", "Cannot allocate memory", "std::bad_alloc", "malloc failed", "memory allocation")


class SubprocessRunner(Runner):
    """
    Exports the release once per commit, and runs each job in a process group of its own.

    The job sees the exported project (as its directory and its only ``PYTHONPATH``), an environment of listed
    variables, a home of its own, and its files. Memory is limited per process, time for the whole group, which is
    killed at the end whatever became of it, and when this process dies.

    Args:
        git: Where releases come of.
        cache: Directory of exported commits; kept between runs.
        pass_environment: Names of further variables that jobs may see, for a ``load`` that needs its own credentials.
        python: The interpreter; its environment is the job's.
    """

    def __init__(
        self, git: Git, cache: Path, *, pass_environment: tuple[str, ...] = (), python: str = sys.executable
    ) -> None:
        self._git = git
        self._cache = cache
        self._passed = _PASSED | set(pass_environment)
        self._python = python

    def load(self, job: LoadJob, on_progress: OnProgress = ignore_progress) -> LoadResult:
        """Ask the project for its base training rows."""
        order = Order(
            kind="load",
            output=_text(job.output),
            memory_bytes=job.limits.memory_bytes,
            function=job.function,
            until=job.until,
        )
        done = self._outcome(order, job.source, job.limits, on_progress)
        return LoadResult(table=job.output / "table.parquet", rows=done.rows, log=_log(job.output))

    def train(self, job: TrainJob, on_progress: OnProgress = ignore_progress) -> TrainResult:
        """Train, and write the artefact."""
        order = Order(
            kind="train",
            output=_text(job.output),
            memory_bytes=job.limits.memory_bytes,
            classifier=job.classifier,
            function=job.function,
            task=job.task,
            table=_text(job.training),
            holdout=None if job.holdout is None else _text(job.holdout),
            reference=None if job.reference is None else _text(job.reference),
            target=job.target,
            positive=job.positive,
            seed=job.seed,
        )
        done = self._outcome(order, job.source, job.limits, on_progress)
        return TrainResult(
            artifact=job.output / "artifact",
            metrics=done.metrics,
            rows=done.rows,
            duration=timedelta(seconds=done.seconds),
            log=_log(job.output),
        )

    def replay(self, job: ReplayJob, on_progress: OnProgress = ignore_progress) -> ReplayResult:
        """Answer the rows with each version, and time single rows of all versions in turn."""
        order = Order(
            kind="replay",
            output=_text(job.output),
            memory_bytes=job.limits.memory_bytes * len(job.artifacts),
            classifier=job.classifier,
            artifacts=tuple(_text(artifact) for artifact in job.artifacts),
            table=_text(job.rows),
        )
        done = self._outcome(order, job.source, job.limits, on_progress)
        versions = (
            Replay(
                predictions=job.output / predictions_file(place),
                latencies_ms=done.latencies_ms[place],
                artifact_bytes=sum(path.stat().st_size for _, path in tree_files(artifact, exclude=("data",))),
            )
            for place, artifact in enumerate(job.artifacts)
        )
        return ReplayResult(versions=tuple(versions), rows=done.rows, log=_log(job.output))

    def _outcome(self, order: Order, source: CodeSource | None, limits: Limits, on_progress: OnProgress) -> Outcome:
        output = Path(order.output)
        project = None if source is None else self._exported(source)
        order = replace(order, project=None if project is None else str(project))
        finished = _finished(output, order)
        if finished is not None:
            return finished
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        (output / _ORDER).write_bytes(to_json(order))
        home = output / _HOME  # below the output: what a killed job leaves goes with it
        home.mkdir()
        environment = self._environment(order, project or home, str(home))
        code = self._run(output, project or home, environment, limits, on_progress)
        shutil.rmtree(home, ignore_errors=True)
        found = _finished(output, order)
        if code or found is None:
            raise _fault(order, code, limits, _log(output))
        return found

    def _exported(self, source: CodeSource) -> Path:
        """The project's directory in the export of its commit, made when it is asked for the first time."""
        commit = self._git.resolve(source.project, source.revision)
        tree = self._git.work_tree(source.project)
        place = self._cache.absolute() / commit
        if not place.is_dir():
            self._cache.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{commit}-", dir=self._cache))
            self._git.export(source.project, commit, unfinished)
            try:
                unfinished.rename(place)
            except OSError:  # another thread was first; theirs is the same
                shutil.rmtree(unfinished)
        return place if tree is None else place / tree.prefix

    def _run(
        self, output: Path, project: Path, environment: dict[str, str], limits: Limits, on_progress: OnProgress
    ) -> int:
        deadline = time.monotonic() + limits.time.total_seconds()
        with _pipe() as (lifeline, _held), _pipe() as (heard, told), _log(output).open("wb") as log:
            ends = (lifeline.fileno(), told.fileno())
            child = subprocess.Popen(  # noqa: S603 - our own module, a list of arguments
                [self._python, "-m", _CHILD, str(output / _ORDER), *map(str, ends)],
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

    def _environment(self, order: Order, project: Path, home: str) -> dict[str, str]:
        """A replay times single rows: with more than one thread it would measure how long they wait for a busy core."""
        alone = dict.fromkeys(_THREADS, "1") if order.kind == "replay" else {}
        passed = alone | {name: value for name, value in os.environ.items() if name in self._passed}
        own = {"HOME": home, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        return {**passed, **own, "PYTHONUNBUFFERED": "1"}


def _finished(output: Path, order: Order) -> Outcome | None:
    outcome = output / _OUTCOME
    if not outcome.is_file():
        return None
    done = from_json((output / _ORDER).read_bytes(), Order)
    if replace(done, memory_bytes=order.memory_bytes) != order:
        raise AlreadyExists(f"{output} holds what another job made.", remedy="Give each job an output of its own.")
    return from_json(outcome.read_bytes(), Outcome)


def _follow(pid: int, heard: FileIO, deadline: float, on_progress: OnProgress) -> None:
    """Pass on what the job tells until it ends or its time is over."""
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
    """Kill what is left of the job; its first process is not yet reaped, so that the number is still its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nobody is left; macOS says it the second way
        return


def _fault(order: Order, code: int, limits: Limits, log: Path) -> RunnerFailed | RunnerLimit:
    tail = _tail(log)
    what = f"The {order.kind} job" + (f" of {order.classifier}" if order.classifier else "")
    if code == _TIMED_OUT:
        message = f"{what} took longer than {render_duration(limits.time)} and was stopped."
        return RunnerLimit(message, log_tail=tail, remedy="Raise retraining.limits.time, or train on less.")
    if code == OUT_OF_MEMORY or (code and any(word in tail for word in _MEMORY_WORDS)):
        message = f"{what} needed more memory than {limits.memory_bytes >> 20} MiB."
        return RunnerLimit(message, log_tail=tail, remedy="Raise retraining.limits.memory, or train on less.")
    number = code - _SIGNALLED if code > _SIGNALLED else -code
    how = f"by {signal.Signals(number).name}" if number > 0 else f"with status {code}"
    last = tail.strip().rsplit("\n", 1)[-1]
    return RunnerFailed(f"{what} ended {how}: {last}", log_tail=tail, remedy=f"The whole log is {log}.")


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    reading, writing = os.pipe()
    with FileIO(reading, "rb") as one, FileIO(writing, "wb") as other:
        yield one, other


def _log(output: Path) -> Path:
    return output / "log.txt"


def _text(path: Path) -> str:
    return str(path.absolute())
