"""Write and read a job's order and outcome in its output directory, so that a repeated job does not run twice."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from mendel.errors import AlreadyExists, RunnerFailed, RunnerLimit
from mendel.retraining.ports import (
    Limits,
    LoadJob,
    LoadResult,
    ParityJob,
    Replay,
    ReplayJob,
    ReplayResult,
    TrainJob,
    TrainResult,
)
from mendel.values import from_json, render_duration, to_json
from mendel.values.directory_trees import tree_files
from mendel.values.parity import ParityReport

ORDER_FILE, _OUTCOME_FILE = "order.json", "outcome.json"
_EXCEPTION_TYPE: Final = re.compile(r"[A-Za-z_][\w.]*(?=:|$)")
_UNCHECKED = ParityReport.not_measured("the replay ran with an older Mendel, which did not check parity")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """
    The description of a job, which the job's process reads; paths are absolute.

    Attributes:
        kind: ``load``, ``train``, ``replay`` or ``parity``; the other fields depend on the kind.
        project: The exported directory of the project's release; None for a model without a project.
        locked: Whether the job runs in the environment of the release's lock.
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
    locked: bool = False
    failures: bool = False

    def __str__(self) -> str:
        return f"The {self.kind} job" + (f" of {self.classifier}" if self.classifier else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """
    The result of a successful job; a job without this file has failed.

    ``latencies_ms`` is filled by a replay: the p95 per timing round for each version. ``parity`` is filled by a replay
    and by a parity job, for each version; ``failed_rows`` by a replay that counts failures.
    """

    rows: int
    metrics: dict[str, float]
    seconds: float = 0.0
    latencies_ms: tuple[tuple[float, ...], ...] = ()
    parity: tuple[ParityReport, ...] = ()
    failed_rows: tuple[int, ...] = ()


def load_order(job: LoadJob, project: Path) -> JobOrder:
    """Make the order that loads the base training rows."""
    return JobOrder(
        kind="load",
        output=_text(job.output),
        memory_bytes=job.limits.memory_bytes,
        function=job.function,
        until=job.until,
        project=_text(project),
    )


def train_order(job: TrainJob, project: Path) -> JobOrder:
    """Make the order that trains a model."""
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
    """Make the order that replays versions; the memory limit is multiplied by the number of versions."""
    return JobOrder(
        kind="replay",
        output=_text(job.output),
        memory_bytes=job.limits.memory_bytes * len(job.artifacts),
        classifier=job.classifier,
        artifacts=tuple(_text(artifact) for artifact in job.artifacts),
        table=_text(job.rows),
        project=None if project is None else _text(project),
        failures=job.failures,
    )


def parity_order(job: ParityJob, project: Path | None) -> JobOrder:
    """Make the order that checks the parity of a version."""
    return JobOrder(
        kind="parity",
        output=_text(job.output),
        memory_bytes=job.limits.memory_bytes,
        classifier=job.classifier,
        artifacts=(_text(job.artifact),),
        table="" if job.rows is None else _text(job.rows),
        project=None if project is None else _text(project),
    )


def load_result(job: LoadJob, outcome: JobOutcome) -> LoadResult:
    return LoadResult(table=table_file(job.output), rows=outcome.rows, log=log_file(job.output))


def train_result(job: TrainJob, outcome: JobOutcome) -> TrainResult:
    return TrainResult(
        artifact=artifact_directory(job.output),
        metrics=outcome.metrics,
        rows=outcome.rows,
        duration=timedelta(seconds=outcome.seconds),
        log=log_file(job.output),
    )


def replay_result(job: ReplayJob, outcome: JobOutcome) -> ReplayResult:
    versions = (
        Replay(
            predictions=predictions_file(job.output, place),
            latencies_ms=outcome.latencies_ms[place] if outcome.latencies_ms else (),
            failed_rows=outcome.failed_rows[place] if outcome.failed_rows else 0,
            parity=outcome.parity[place] if outcome.parity else _UNCHECKED,
            artifact_bytes=sum(path.stat().st_size for _, path in tree_files(artifact, exclude=("data",))),
        )
        for place, artifact in enumerate(job.artifacts)
    )
    return ReplayResult(versions=tuple(versions), rows=outcome.rows, log=log_file(job.output))


def finished(order: JobOrder) -> JobOutcome | None:
    """
    Read the outcome if the same job already ended in this output directory, else None; limits and packages may differ.

    Raises:
        AlreadyExists: Another job has used the output directory.
    """
    output = Path(order.output)
    if not (output / _OUTCOME_FILE).is_file():
        return None
    former = from_json((output / ORDER_FILE).read_bytes(), JobOrder)
    if replace(former, memory_bytes=order.memory_bytes, locked=order.locked) != order:
        raise AlreadyExists(
            f"The directory {output} already contains the output of another job.",
            remedy="Give each job a different output directory.",
        )
    return from_json((output / _OUTCOME_FILE).read_bytes(), JobOutcome)


def begin(order: JobOrder) -> None:
    """Create the output directory with the order in it, and delete files of an interrupted job."""
    output = Path(order.output)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    (output / ORDER_FILE).write_bytes(to_json(order))


def finish(order: JobOrder, outcome: JobOutcome) -> None:
    """Write the outcome file as the last step of a job."""
    unfinished = Path(order.output) / f"{_OUTCOME_FILE}.unfinished"
    unfinished.write_bytes(to_json(outcome))
    unfinished.rename(Path(order.output) / _OUTCOME_FILE)


def time_exceeded(order: JobOrder, limits: Limits, log_tail: str) -> RunnerLimit:
    """Make the error for a job that exceeded its time limit."""
    message = f"{order} took longer than {render_duration(limits.time)} and was stopped."
    return RunnerLimit(message, log_tail=log_tail, remedy="Raise retraining.limits.time, or train on fewer rows.")


def memory_exceeded(order: JobOrder, log_tail: str) -> RunnerLimit:
    """Make the error for a job that exceeded its memory limit."""
    message = f"{order} needed more memory than {order.memory_bytes >> 20} MiB."
    return RunnerLimit(message, log_tail=log_tail, remedy="Raise retraining.limits.memory, or train on fewer rows.")


def job_failed(order: JobOrder, how: str, log_tail: str, log: Path) -> RunnerFailed:
    """
    Make the error for a job that ended with an error.

    The message goes to incidents and the ledger, so of the last line of the log, which may contain values of rows, it
    gives only the type of the exception.

    Args:
        how: How the job ended, such as ``with exit code 1``.
    """
    kind = _EXCEPTION_TYPE.match(log_tail.strip().rsplit("\n", 1)[-1])
    message = f"{order} ended {how}" if kind is None else f"{order} ended {how}: {kind.group()}"
    return RunnerFailed(f"{message}.", log_tail=log_tail, remedy=f"Read the complete log of the job: {log}")


def table_file(output: Path) -> Path:
    """The file of rows that a load job writes."""
    return output / "table.parquet"


def artifact_directory(output: Path) -> Path:
    """The directory of the artefact that a training job writes."""
    return output / "artifact"


def predictions_file(output: Path, place: int) -> Path:
    """The file of answers of the replayed version number *place*, from 0."""
    return output / f"predictions-{place}.parquet"


def log_file(output: Path) -> Path:
    """The log file of a job."""
    return output / "log.txt"


def _text(path: Path) -> str:
    return str(path.absolute())
