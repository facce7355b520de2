"""The ports of retraining: a runner for a project's code, labelled rows, and tables in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from mendel.errors import InvalidValue
from mendel.values import ModelName, Table, Window
from mendel.values.parity import ParityReport


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSource:
    """
    The code of a project at one revision.

    Attributes:
        project: The project's directory in a checkout or bare repository on this machine.
        revision: A release tag or a commit; the working tree is never used.
        locked: Whether jobs with the project's function run with the packages of the release's lock; None means with
            them if this machine can provide them. Other jobs run with the packages of their versions.
    """

    project: Path
    revision: str
    locked: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    The limits of a job.

    Attributes:
        memory_bytes: The memory of each process of the job, per loaded version; enforced by the kernel.
        time: The time from start to end of the job.
    """

    memory_bytes: int = 4 << 30
    time: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if self.memory_bytes <= 0 or self.time <= timedelta(0):
            raise InvalidValue("retraining.limits.memory and retraining.limits.time must be above 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadJob:
    """
    A job that loads the base training rows up to a time with the project's function ``function(until)``, which gives a
    frame.
    """

    source: CodeSource
    function: str
    until: str
    output: Path
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """
    A job that trains one model with the project's ``function(frame, *, target, seed)`` and writes the artefact.

    Attributes:
        function: The training function, ``module:name``.
        task: ``classification`` or ``regression``, as in the artefact's ``mendel`` flavour.
        training: A Parquet file with the target column; the function gets it as a pandas frame.
        positive: The class that counts as positive; None averages over classes.
        holdout: A Parquet file with the same columns, for the metrics; None gives no metrics.
        reference: A Parquet file with the rows for the version's drift reference; None uses the training rows.
        output: The job's own directory, created by the job; an unfinished one is replaced.
    """

    source: CodeSource
    classifier: str
    function: str
    task: str
    training: Path
    target: str
    seed: int
    output: Path
    positive: str | int | bool | None = None
    holdout: Path | None = None
    reference: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """
    A job in which several versions answer the same rows, loaded as in serving, and are timed side by side.

    One process loads every version and lets each answer all rows. Then single rows are timed in rounds. In each round
    every version answers the same rows, one at a time. The order of the versions is reversed from row to row (A B, B A,
    ...) and from round to round, so that a temporarily slow machine affects all versions equally.

    Attributes:
        source: The code with which every version is loaded; None for models without a project.
        artifacts: The artefact directories of the versions, at least one; only the job's process loads them.
        rows: A Parquet file with at least the input columns of every version.
        failures: Only count the rows that each version fails to answer, asked one at a time; nothing is timed, and no
            answers are written.
    """

    source: CodeSource | None
    classifier: str
    artifacts: tuple[Path, ...]
    rows: Path
    output: Path
    failures: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise InvalidValue("The replay job names no version; give at least one version.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityJob:
    """
    A job in which a version is loaded as in serving and answers its probe rows, all together and each alone.

    Attributes:
        source: The code with which the version is loaded; None for a model without a project.
        artifact: The artefact directory of the version; only the job's process loads the version.
        rows: A Parquet or CSV file whose rows the stored model answers directly, in place of the stored probe rows;
            None checks the stored probe rows.
    """

    source: CodeSource | None
    classifier: str
    artifact: Path
    output: Path
    rows: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """The base training rows of the project, in a Parquet file."""

    table: Path
    rows: int
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """
    The result of a training job.

    Attributes:
        artifact: The directory of the artefact, which is not yet registered.
        metrics: The metrics on the holdout by name; empty without a holdout.
        rows: The number of training rows.
        duration: The duration of the training function only.
    """

    artifact: Path
    metrics: dict[str, float]
    rows: int
    duration: timedelta
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """
    One version's answers to all rows.

    Attributes:
        predictions: A Parquet file in the order of the rows: ``prediction`` and, if the model gives probabilities,
            ``proba.<class>``.
        latencies_ms: The p95 latency of single-row calls in ms for each timing round, with the best of several tries
            per row. All versions of a job have the same number of rounds; empty without rows.
        artifact_bytes: The size of the artefact's files.
        parity: The comparison of the version's answers to its own probe rows with those of the fitted model, all rows
            together and each alone.
        failed_rows: The number of rows that the version failed to answer; 0 unless the job counts failures.
    """

    predictions: Path
    latencies_ms: tuple[float, ...]
    artifact_bytes: int
    parity: ParityReport
    failed_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """The versions' answers, in the order of the job's ``artifacts``; ``rows`` is the number of rows."""

    versions: tuple[Replay, ...]
    rows: int
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a job: the current step, and its finished share as a fraction, or None if unknown."""

    doing: str
    share: float | None = None


OnProgress = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """Do nothing with the progress report."""


class Runner(Protocol):
    """
    Runs a project's code outside the control plane, with limits and without its credentials; input and output are
    files.

    Idempotence: the output directory identifies a job. If the same job has ended there, its result is returned and
    nothing runs; limits are not compared. If a job was interrupted or failed there, its files are deleted and the job
    runs again, even if it is another job.

    Concurrency: a method blocks until its job ends. Several threads may run jobs at once in different output
    directories. When the calling process dies, its jobs are killed.

    Order: *on_progress* is called in the order of the job's steps, and never after the method has returned.

    Raises:
        ReleaseNotFound: The revision does not exist; no output was made.
        AlreadyExists: Another job has finished in the output directory; its files are kept.
        RunnerFailed: The project's code raised, returned an unusable value, or its process died; the error has the end
            of the log.
        RunnerLimit: The job exceeded its memory or time limit and was stopped; the error has the end of the log.
    """

    def load(self, job: LoadJob, on_progress: OnProgress = ignore_progress) -> LoadResult:
        """Load the base training rows with the project's function."""

    def train(self, job: TrainJob, on_progress: OnProgress = ignore_progress) -> TrainResult:
        """
        Train a model, measure it on the holdout, and write the artefact.

        The steps are ``reading``, ``training``, ``measuring`` and ``writing``; a training function with a parameter
        ``progress`` can report the finished share of ``training``.
        """

    def replay(self, job: ReplayJob, on_progress: OnProgress = ignore_progress) -> ReplayResult:
        """Let each version answer its probe rows and all rows, then time single rows of all versions in turn."""

    def check_parity(self, job: ParityJob, on_progress: OnProgress = ignore_progress) -> ParityReport:
        """
        Compare a version's answers to its probe rows, all rows together and each alone.

        A version that the job's process cannot load, and rows that the stored model cannot answer, give ``not
        measured`` with the reason.
        """


class LabelledRows(Protocol):
    """The part of :class:`mendel.predictions.PredictionLog` that retraining uses; the behaviour is specified there."""

    def predictions(self, model: ModelName, window: Window, *, columns: Sequence[str] | None = None) -> Table:
        """Give the predictions whose event time is in *window*, oldest first."""

    def labelled(self, model: ModelName, window: Window) -> Table:
        """Give the labelled predictions in *window*, with the column ``label``."""


class Tables(Protocol):
    """Read and write tables as Parquet files; writing is atomic, and reading gives the same columns and types."""

    def read(self, path: Path) -> Table:
        """Read every row of the file."""

    def write(self, table: Table, path: Path) -> None:
        """Write the table to *path*, replacing an existing file."""
