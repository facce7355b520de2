"""Train the release at HEAD in a separate process, register the version, and judge it, for `mendel train`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mendel.adapters.arrow import read_table_and_times, write_table
from mendel.adapters.git import GitPrograms
from mendel.app.clock import utc_now
from mendel.app.images.lockfile import read_lock
from mendel.app.project.job_runner import subprocess_runner
from mendel.app.project.policy_files import checked_policy
from mendel.app.project.repository_address import repository_address
from mendel.app.settings import Settings
from mendel.client.client import Client
from mendel.drift import MonitoringPolicy
from mendel.errors import Conflict, DataDirectoryNotFound, InvalidInput
from mendel.gates import GateReport
from mendel.projects import (
    Classifier,
    Project,
    chosen_classifier,
    code_digest,
    load_project,
    read_repository_state,
    unwatched_reason,
)
from mendel.registry import ProjectSource, Provenance, Registration
from mendel.retraining import (
    CodeSource,
    RetrainingPolicy,
    TrainJob,
    TrainResult,
    fingerprint,
)
from mendel.values import Table, VersionRef, VersionUuid, from_builtins, from_mapping
from mendel.values.data_frames import is_null

NOT_JUDGED = "not judged"
_LEAST_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """
    The arguments of ``mendel train``.

    Attributes:
        data: The file with the training rows (Parquet or CSV).
        target: The column to predict; None uses ``monitoring.target`` of mlserver.yaml.
        holdout: The share of rows that are not trained on but used to judge the version, a fraction.
        seed: The seed of the random split and of the training.
        classifier: The classifier to train; None uses the only classifier.
        path: The directory of the project; None uses the project that contains the working directory.
    """

    data: Path
    target: str | None = None
    holdout: float = 0.25
    seed: int = 0
    classifier: str | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """
    The result of a training.

    ``verdict`` is the verdict of the gates for a first deployment. It is ``not judged`` when the model has a production
    version, because only the retrain playbook compares versions, when no rows were held out, or when the hub is on
    another machine, which does not have the code.
    """

    ref: VersionRef
    uuid: VersionUuid
    release_tag: str
    rows: int
    metrics: dict[str, float]
    verdict: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """The inputs of one training and the paths of its files."""

    request: TrainingRequest
    project: Project
    classifier: Classifier
    tag: str
    commit: str
    monitoring: MonitoringPolicy
    retraining: RetrainingPolicy
    target: str
    scratch: Path

    @property
    def source(self) -> CodeSource:
        return CodeSource(project=self.project.root, revision=self.tag)

    @property
    def training(self) -> Path:
        return self.scratch / "data" / "training.parquet"

    @property
    def holdout(self) -> Path:
        return self.scratch / "holdout.parquet"


def train_release(
    request: TrainingRequest, client: Client, settings: Settings, *, phase: Callable[[str], None] = lambda _: None
) -> Trained:
    """
    Train the classifier's release at HEAD, register the version, and judge a first deployment.

    Args:
        phase: Called when a phase begins, with what is done, for example ``Training credit on 375 rows``.

    Raises:
        Conflict: HEAD is not a release of the classifier, or files have changed since the release.
        InvalidInput: The table lacks the target column, or has too few rows.
        RunnerError: The project's code failed; the error contains the end of the log.
    """
    project = load_project(request.path or Path.cwd())
    classifier = chosen_classifier(project, request.classifier)
    tag, commit = release_at_head(project, classifier.name)
    monitoring = from_mapping(MonitoringPolicy, classifier.monitoring, at="monitoring")
    target = request.target or monitoring.target
    if target is None:
        raise InvalidInput(
            "The target column is unknown.", remedy="Give --target, or set monitoring.target in mlserver.yaml."
        )
    policy = checked_policy(classifier.policy, at=str(project.file))
    with tempfile.TemporaryDirectory(prefix="mendel-train-") as scratch:
        job = _Job(
            request=request,
            project=project,
            classifier=classifier,
            tag=tag,
            commit=commit,
            monitoring=monitoring,
            retraining=from_mapping(RetrainingPolicy, classifier.retraining, at="retraining"),
            target=target,
            scratch=Path(scratch),
        )
        phase(f"Reading {request.data}")
        table, times = read_table_and_times(request.data)
        training, holdout = _split(table, target, share=request.holdout, seed=request.seed)
        job.training.parent.mkdir()
        write_table(training, job.training, times=times - {target})
        write_table(holdout, job.holdout, times=times - {target})
        runner = subprocess_runner(settings)
        left_out = len(table) - len(training) - len(holdout)
        phase(
            f"Training {classifier.name} on {len(training)} rows, with the files of {tag}"
            + (f" ({left_out} rows without a value of {target!r} are left out)" if left_out else "")
        )
        result = runner.train(_train_job(job))
        phase(f"Registering {classifier.name}")
        if policy and not _has_policy(client, classifier.name):
            client.set_policy(classifier.name, policy)
        wish = _registration(job, training, result, client)
        registered = client.register(wish, result.artifact, data=job.training.parent)
        ref = registered.ref
        report = None
        if len(holdout) and client.on_this_machine and client.deployment(classifier.name).production is None:
            phase(f"Judging {ref} on {len(holdout)} rows that were kept out of training")
            report = from_builtins(client.judge(ref, job.holdout, target=target).body, GateReport)
        return Trained(
            ref=ref,
            uuid=registered.model_uuid,
            release_tag=tag,
            rows=result.rows,
            metrics=result.metrics,
            verdict=NOT_JUDGED if report is None else report.verdict.value,
            reasons=() if report is None else (*report.reasons, *report.needs),
        )


def release_at_head(project: Project, classifier: str) -> tuple[str, str]:
    """
    Give the release tag of *classifier* at HEAD, and the full commit.

    Raises:
        Conflict: HEAD is not a release of *classifier*, or files have changed since the release.
    """
    seen = read_repository_state(project, GitPrograms())  # every commit counts: the code digest covers all files
    release = seen.newest.get(classifier)
    bump = "patch" if classifier in seen.newest else "minor"
    remedy = f"Commit the changes, then run: mendel tag {bump} --classifier {classifier}"
    if seen.work_tree is None:
        raise Conflict(
            f"The project {project.root} is not in a git repository, so it has no releases.",
            remedy=f"Run: git init && git add . && git commit && mendel tag minor --classifier {classifier}",
        )
    if release is None or release.behind != 0:
        raise Conflict(f"HEAD is not a release of classifier {classifier}.", remedy=remedy)
    if not release.annotated:
        raise Conflict(
            f"The release tag {release.tag} is not annotated.",
            remedy=f"Run: mendel tag --annotate --classifier {classifier}",
        )
    if seen.work_tree.changed:
        changed = ", ".join(seen.work_tree.changed[:5])
        raise Conflict(f"Files have changed since release {release.tag}: {changed}.", remedy=remedy)
    if seen.unwatched:
        raise Conflict(f"{unwatched_reason(seen.unwatched)}.", remedy=remedy)
    return str(release.tag), release.commit


def _split(table: Table, target: str, *, share: float, seed: int) -> tuple[Table, Table]:
    if target not in table:
        raise InvalidInput(
            f"The training table has no target column {target!r}.",
            remedy=f"Choose one of its columns: {', '.join(table.names)}.",
        )
    table = table.take(np.array([not is_null(value) for value in table[target].tolist()], dtype=np.bool_))
    if len(table) < _LEAST_ROWS:
        raise InvalidInput(
            f"The training table has only {len(table)} rows with a target.", remedy=f"Give at least {_LEAST_ROWS} rows."
        )
    order = np.random.default_rng(seed).permutation(len(table))
    kept = round(len(table) * share)
    return table.take(np.sort(order[kept:])), table.take(np.sort(order[:kept]))


def _train_job(job: _Job) -> TrainJob:
    return TrainJob(
        source=job.source,
        classifier=job.classifier.name,
        function=f"{job.retraining.module}:{job.retraining.function}",
        task=job.monitoring.task.value,
        training=job.training,
        target=job.target,
        positive=job.monitoring.positive_label,
        seed=job.request.seed,
        output=job.scratch / "train",
        holdout=job.holdout if job.request.holdout else None,
        limits=job.retraining.limits.limits,
    )


def _registration(job: _Job, training: Table, result: TrainResult, client: Client) -> Registration:
    tracked, lock = GitPrograms().tracked(job.project.root), read_lock(job.project.root)
    return Registration(
        model=job.classifier.name,
        flavor="mendel",
        task=job.monitoring.task.value,
        code_digest=code_digest(job.project.root, tracked),
        lock_digest=None if lock is None else lock.digest,
        release_tag=job.tag,
        project=ProjectSource(
            repository=repository_address(job.project, client), classifier=job.classifier.name, tag=job.tag
        ),
        training_fingerprint=fingerprint(training).digest,
        metrics=result.metrics,
        metadata={"model_type": job.monitoring.task.value, "is_baseline": True},
        description=job.classifier.description,
        provenance=Provenance(
            training_dataset_size=result.rows,
            training_timestamp=utc_now(),
            training_duration=result.duration,
            git_commit_hash=job.commit,
        ),
    )


def _has_policy(client: Client, model: str) -> bool:
    try:
        return client.policy(model).version > 0
    except DataDirectoryNotFound:  # this registration is the first
        return False
