"""What retraining needs of others: a place to run a project's code, and tables in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from mendel.errors import InvalidValue
from mendel.values import ModelName, Table, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSource:
    """
    The code a job runs.

    Attributes:
        project: The directory of the project, in a checkout or bare repository that is on this machine.
        revision: A release tag or a commit; the working tree is never used.
    """

    project: Path
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What a job may use.

    Attributes:
        memory_bytes: Of each of its processes, for each version that it loads; held by the kernel.
        time: From start to end, of the job with all its processes.
    """

    memory_bytes: int = 4 << 30
    time: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if self.memory_bytes <= 0 or self.time <= timedelta(0):
            raise InvalidValue("The limits of a job are above 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadJob:
    """Asks the project for its base training rows up to a time: ``function(until)`` gives a frame."""

    source: CodeSource
    function: str
    until: str
    output: Path
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """
    Asks for one model: ``function(frame, *, target, seed)`` of the project, packed as an artefact.

    Attributes:
        function: ``module:name``.
        task: ``classification`` or ``regression``, as the artefact's ``mendel`` flavour says it.
        training: Parquet with the target column; what the function gets as a pandas frame.
        positive: The class that counts as positive; None averages over classes.
        holdout: Parquet of the same columns that the function never sees; without it no metrics.
        reference: Parquet of the rows whose features the version shall expect to see, for its drift reference; without
            it the training rows are.
        output: An own directory of the job; it is made, and a half-finished one is replaced.
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
    Asks what versions answer to the same rows, through the same loading as serving, and how fast beside each other.

    One process loads every version and answers all rows with each. Then it times single rows in rounds: each round asks
    the same rows, evenly spread over all, one at a time, of every version in turn, and the order of the versions turns
    round from row to row (A B, B A, ...) and from round to round. A machine that is slow for a while is thus slow for
    all of them.

    Attributes:
        source: The code that every version is loaded with; None for plain models without a project.
        artifacts: The versions' directories, at least one; only the job's own process reads the models in them.
        rows: Parquet with at least the input columns of every version.
    """

    source: CodeSource | None
    classifier: str
    artifacts: tuple[Path, ...]
    rows: Path
    output: Path
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise InvalidValue("A replay needs at least one version.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """The rows the project gave, as Parquet."""

    table: Path
    rows: int
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """
    A trained artefact.

    Attributes:
        artifact: Its directory, not yet registered.
        metrics: On the holdout, by name; empty without one.
        rows: How many it was trained on.
        duration: Of the training function alone.
    """

    artifact: Path
    metrics: dict[str, float]
    rows: int
    duration: timedelta
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """
    One version's answers, row by row.

    Attributes:
        predictions: Parquet in the order of the rows: ``prediction`` and, where there are, ``proba.<class>``.
        latencies_ms: The p95 over the timed rows in each round, each row asked alone and the best of several tries
            taken, so that a busy machine does not pass for a slow model. All versions of a job have equally many, in
            the order of the rounds; empty where there are no rows.
        artifact_bytes: Size of the artefact's files.
    """

    predictions: Path
    latencies_ms: tuple[float, ...]
    artifact_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """The versions' answers, in the order of the job's ``artifacts``; ``rows`` counts the rows of each."""

    versions: tuple[Replay, ...]
    rows: int
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is: what it does, and where it knows the share that is done, a fraction."""

    doing: str
    share: float | None = None


OnProgress = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """Watch nothing."""


class Runner(Protocol):
    """
    Runs a project's code outside of the control plane, with limits and without its credentials; files in, files out.

    Idempotence: a job is known by its output directory. When the same job ended there before, its result is given back
    and nothing runs; limits do not count as a part of the job. When a job broke off or failed there, what it left is
    removed and the job runs anew, even as another one.

    Concurrency: a method blocks until its job ends. Several threads may run jobs at once, each with an output of its
    own. When the calling process dies, its jobs die with it.

    Order: *on_progress* is called in the order of the job's steps, and never after the method returned.

    Raises:
        ReleaseNotFound: The revision does not exist; no output was made.
        AlreadyExists: The output holds what another job made; that stays.
        RunnerFailed: The project's code raised, gave something that the job cannot use, or its process died; carries
            the end of the log.
        RunnerLimit: The job needed more memory or time than its limits, and was stopped; carries the end of the log.
    """

    def load(self, job: LoadJob, on_progress: OnProgress = ignore_progress) -> LoadResult:
        """Ask the project for its base training rows."""

    def train(self, job: TrainJob, on_progress: OnProgress = ignore_progress) -> TrainResult:
        """
        Train a model, measure it on the holdout, and write the artefact.

        The steps are ``reading``, ``training``, ``measuring`` and ``writing``; a training function that takes
        ``progress`` may report its share of ``training``.
        """

    def replay(self, job: ReplayJob, on_progress: OnProgress = ignore_progress) -> ReplayResult:
        """Answer all rows with each version, and time single rows of all versions in turn."""


class LabelledRows(Protocol):
    """What retraining uses of :class:`mendel.predictions.PredictionLog`, which specifies it."""

    def predictions(self, model: ModelName, window: Window, *, columns: Sequence[str] | None = None) -> Table:
        """Predictions whose event time lies in *window*, oldest first."""

    def labelled(self, model: ModelName, window: Window) -> Table:
        """Those of them that have a label, with ``label``."""


class Tables(Protocol):
    """Tables in Parquet files. What is written is whole or absent, and reads back with the same columns and kinds."""

    def read(self, path: Path) -> Table:
        """Every row of the file."""

    def write(self, table: Table, path: Path) -> None:
        """Write the file, in place of an older one."""
