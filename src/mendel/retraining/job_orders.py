"""Jobs as they stand in files: the order and the outcome in a job's output directory, by which it is idempotent."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from mendel.errors import AlreadyExists, RunnerLimit
from mendel.retraining.ports import (
    Limits,
    LoadJob,
    LoadResult,
    Replay,
    ReplayJob,
    ReplayResult,
    TrainJob,
    TrainResult,
)
from mendel.values import from_json, render_duration, to_json
from mendel.values.directory_trees import tree_files

ORDER_FILE, _OUTCOME_FILE = "order.json", "outcome.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """
    A job as the working process gets it; paths are absolute.

    Attributes:
        kind: ``load``, ``train`` or ``replay``; it says which of the other fields mean something.
        project: The project's directory as it was released; None for a plain model.
    """

    kind: str
    output: str
    memory_bytes: int
    classifier: str = ""
    function: str = ""
    task: str = ""
    table: str = ""
    holdout: str | None = None
    reference: str | None = None
    target: str = ""
    positive: str | int | bool | None = None
    seed: int = 0
    until: str = ""
    artifacts: tuple[str, ...] = ()
    project: str | None = None

    def __str__(self) -> str:
        return f"The {self.kind} job" + (f" of {self.classifier}" if self.classifier else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """
    What the working process leaves behind when it succeeded; its absence is failure.

    ``latencies_ms`` are of a replay: for each version its p95 in each round.
    """

    rows: int
    metrics: dict[str, float]
    seconds: float = 0.0
    latencies_ms: tuple[tuple[float, ...], ...] = ()


def load_order(job: LoadJob, project: Path) -> JobOrder:
    """The order for base training rows."""
    return JobOrder(
        kind="load",
        output=_text(job.output),
        memory_bytes=job.limits.memory_bytes,
        function=job.function,
        until=job.until,
        project=_text(project),
    )


def train_order(job: TrainJob, project: Path) -> JobOrder:
    """The order for a model."""
    return JobOrder(
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
        project=_text(project),
    )


def replay_order(job: ReplayJob, project: Path | None) -> JobOrder:
    """The order for answers; all versions are loaded side by side, so each adds to the limit of memory."""
    return JobOrder(
        kind="replay",
        output=_text(job.output),
        memory_bytes=job.limits.memory_bytes * len(job.artifacts),
        classifier=job.classifier,
        artifacts=tuple(_text(artifact) for artifact in job.artifacts),
        table=_text(job.rows),
        project=None if project is None else _text(project),
    )


def load_result(job: LoadJob, outcome: JobOutcome) -> LoadResult:
    """Where the rows are."""
    return LoadResult(table=table_file(job.output), rows=outcome.rows, log=log_file(job.output))


def train_result(job: TrainJob, outcome: JobOutcome) -> TrainResult:
    """Where the artefact is, and what was measured."""
    return TrainResult(
        artifact=artifact_directory(job.output),
        metrics=outcome.metrics,
        rows=outcome.rows,
        duration=timedelta(seconds=outcome.seconds),
        log=log_file(job.output),
    )


def replay_result(job: ReplayJob, outcome: JobOutcome) -> ReplayResult:
    """Where each version's answers are, and how fast they were."""
    versions = (
        Replay(
            predictions=predictions_file(job.output, place),
            latencies_ms=outcome.latencies_ms[place],
            artifact_bytes=sum(path.stat().st_size for _, path in tree_files(artifact, exclude=("data",))),
        )
        for place, artifact in enumerate(job.artifacts)
    )
    return ReplayResult(versions=tuple(versions), rows=outcome.rows, log=log_file(job.output))


def finished(order: JobOrder) -> JobOutcome | None:
    """
    The outcome of an earlier run of the same job; limits may differ.

    Raises:
        AlreadyExists: The output holds what another job made.
    """
    output = Path(order.output)
    if not (output / _OUTCOME_FILE).is_file():
        return None
    former = from_json((output / ORDER_FILE).read_bytes(), JobOrder)
    if replace(former, memory_bytes=order.memory_bytes) != order:
        raise AlreadyExists(f"{output} holds what another job made.", remedy="Give each job an output of its own.")
    return from_json((output / _OUTCOME_FILE).read_bytes(), JobOutcome)


def begin(order: JobOrder) -> None:
    """Make the output with the order in it, in place of what a broken-off job left."""
    output = Path(order.output)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    (output / ORDER_FILE).write_bytes(to_json(order))


def finish(order: JobOrder, outcome: JobOutcome) -> None:
    """Leave the outcome behind, as the last act of a job."""
    unfinished = Path(order.output) / f"{_OUTCOME_FILE}.unfinished"
    unfinished.write_bytes(to_json(outcome))
    unfinished.rename(Path(order.output) / _OUTCOME_FILE)


def time_exceeded(order: JobOrder, limits: Limits, log_tail: str) -> RunnerLimit:
    """The error of a job that was stopped at the end of its time."""
    message = f"{order} took longer than {render_duration(limits.time)} and was stopped."
    return RunnerLimit(message, log_tail=log_tail, remedy="Raise retraining.limits.time, or train on less.")


def memory_exceeded(order: JobOrder, log_tail: str) -> RunnerLimit:
    """The error of a job that met its limit of memory."""
    message = f"{order} needed more memory than {order.memory_bytes >> 20} MiB."
    return RunnerLimit(message, log_tail=log_tail, remedy="Raise retraining.limits.memory, or train on less.")


def table_file(output: Path) -> Path:
    """The rows that a load job gives."""
    return output / "table.parquet"


def artifact_directory(output: Path) -> Path:
    """The artefact that a train job makes."""
    return output / "artifact"


def predictions_file(output: Path, place: int) -> Path:
    """The answers of a replay's n-th version, from 0."""
    return output / f"predictions-{place}.parquet"


def log_file(output: Path) -> Path:
    """What a job printed."""
    return output / "log.txt"


def _text(path: Path) -> str:
    return str(path.absolute())
