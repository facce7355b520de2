"""A runner in this process: real jobs over real files, without isolation."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from mendel.errors import ReleaseNotFound
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
from mendel.retraining.job_execution import execute, require_function
from mendel.retraining.job_orders import (
    JobOrder,
    JobOutcome,
    begin,
    finish,
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
from mendel.values.parity import ParityReport

Functions = Mapping[str, Callable[..., Any]]


class MemoryRunner(Runner):
    """
    Implements :class:`mendel.retraining.Runner`: each job is a thread over the project's working directory.

    Jobs are not isolated: the code sees this process's environment, the memory limit applies only if the code itself
    raises ``MemoryError``, and a job that exceeds its time is reported but continues until it ends by itself.

    Args:
        releases: The functions of each revision, by ``module:name``.
    """

    def __init__(self, releases: Mapping[str, Functions]) -> None:
        self._releases = releases

    def load(self, job: LoadJob, on_progress: OnProgress = ignore_progress) -> LoadResult:
        """Calls the function that *releases* gives for the revision."""
        functions = self._functions(job.source)
        order = load_order(job, job.source.project)
        return load_result(job, _outcome(order, functions, job.limits, on_progress))

    def train(self, job: TrainJob, on_progress: OnProgress = ignore_progress) -> TrainResult:
        functions = self._functions(job.source)
        order = train_order(job, job.source.project)
        return train_result(job, _outcome(order, functions, job.limits, on_progress))

    def replay(self, job: ReplayJob, on_progress: OnProgress = ignore_progress) -> ReplayResult:
        functions = {} if job.source is None else self._functions(job.source)
        order = replay_order(job, None if job.source is None else job.source.project)
        return replay_result(job, _outcome(order, functions, job.limits, on_progress))

    def check_parity(self, job: ParityJob, on_progress: OnProgress = ignore_progress) -> ParityReport:
        functions = {} if job.source is None else self._functions(job.source)
        order = parity_order(job, None if job.source is None else job.source.project)
        return _outcome(order, functions, job.limits, on_progress).parity[0]

    def _functions(self, source: CodeSource) -> Functions:
        if source.revision not in self._releases:
            raise ReleaseNotFound(
                f"The git repository {source.project} has neither a tag nor a commit {source.revision!r}."
            )
        return self._releases[source.revision]


class _Job(Thread):
    """A running job; after its time limit, the job's progress and result are ignored."""

    def __init__(self, order: JobOrder, functions: Functions, on_progress: OnProgress) -> None:
        super().__init__(name=str(order), daemon=True)
        self._order = order
        self._functions = functions
        self._on_progress = on_progress
        self._lock = Lock()
        self._abandoned = Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            outcome = execute(self._order, find_function=self._find, on_progress=self._tell)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            self.error = error
            return
        with self._lock:
            if not self._abandoned.is_set():
                finish(self._order, outcome)

    def abandon(self) -> None:
        with self._lock:
            self._abandoned.set()

    def _find(self, name: str) -> Callable[..., Any]:
        return require_function(name, self._functions.get(name))

    def _tell(self, progress: Progress) -> None:
        with self._lock:
            if not self._abandoned.is_set():
                self._on_progress(progress)


def _outcome(order: JobOrder, functions: Functions, limits: Limits, on_progress: OnProgress) -> JobOutcome:
    if (former := finished(order)) is not None:
        return former
    begin(order)
    log = log_file(Path(order.output))
    log.touch()
    job = _Job(order, functions, on_progress)
    job.start()
    try:
        job.join(limits.time.total_seconds())
    finally:
        job.abandon()
    if job.error is not None:
        log.write_text("".join(traceback.format_exception(job.error)), encoding="utf-8")
        raise _failure(order, job.error, log) from job.error
    found = finished(order)
    if found is None:
        raise time_exceeded(order, limits, log.read_text(encoding="utf-8"))
    return found


def _failure(order: JobOrder, error: BaseException, log: Path) -> Exception:
    tail = log.read_text(encoding="utf-8")
    if isinstance(error, MemoryError):
        return memory_exceeded(order, tail)
    return job_failed(order, "with an error", tail, log)
