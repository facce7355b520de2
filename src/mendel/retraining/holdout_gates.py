"""Judge a version for a first deployment, on rows that were kept out of its training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from threading import BoundedSemaphore
from typing import Final

import numpy as np

from mendel.drift import Task
from mendel.durable import Clock
from mendel.errors import Conflict, InvalidInput, Unavailable
from mendel.gates import Evidence, judge
from mendel.registry import GateRecord, Registry, VersionRecord
from mendel.retraining.gate_evidence import answers_of
from mendel.retraining.ports import CodeSource, Replay, ReplayJob, Runner, Tables
from mendel.retraining.training_data import Policies, schema_violations
from mendel.values import Table, VersionRef
from mendel.values.directory_trees import file_digest

_AT_ONCE: Final = 2


class HoldoutGates:
    """
    Lets the runner ask a version, judges the answers by the policy of the registry, and stores the gate report.

    Args:
        runner: Loads and asks the versions; this process loads none.
        tables: Reads the rows and the answers.
    """

    def __init__(self, registry: Registry, runner: Runner, tables: Tables, clock: Clock) -> None:
        self._registry = registry
        self._runner = runner
        self._tables = tables
        self._clock = clock
        self._turns = BoundedSemaphore(_AT_ONCE)

    def judge(self, ref: VersionRef, rows: Path, *, target: str | None = None, by: str) -> GateRecord:
        """
        Judge *ref* on the rows of a Parquet file, and store the gate report.

        Args:
            target: The column with the true outcome; None takes ``monitoring.target`` of the policy.
            by: The principal that asks.

        Raises:
            VersionNotFound: The version does not exist.
            Conflict: The model has a production version, with which only a retraining compares, or the code of the
                version is not on this machine.
            InvalidInput: The file cannot be read, is empty, or lacks the target column.
            RunnerFailed, RunnerLimit: The version could not answer.
            Unavailable: Too many judgements run.
        """
        record = self._registry.versions.get(ref)
        if self._registry.lifecycle.deployment(ref.model).production is not None:
            raise Conflict(
                f"{ref.model} has a production version, so its versions are judged in comparison with that version.",
                remedy=f"Run: mendel playbook {ref.model} retrain",
            )
        policies = Policies.of(self._registry.policies.of(ref.model))
        target = target or policies.target
        table = self._tables.read(rows)
        if target not in table or not len(table):
            raise InvalidInput(
                f"The rows have no column {target!r}, or there are none.",
                remedy="Give rows with the true outcomes that were kept out of the training.",
            )
        if not self._turns.acquire(blocking=False):
            raise Unavailable(f"{_AT_ONCE} versions are being judged already.", remedy="Try again when they are.")
        try:
            with tempfile.TemporaryDirectory(prefix="mendel-gates-") as scratch:
                replay = self._replay(record, rows, policies, Path(scratch) / "replay")
                evidence = self._evidence(record, table, target, policies, replay)
        finally:
            self._turns.release()
        report = judge(evidence, policies.gates, np.random.default_rng(int(file_digest(rows).hex[:16], 16)))
        decided = GateRecord(
            report_digest=str(report.digest),
            passed=report.promotes,
            verdict=report.verdict.value,
            at=self._clock(),
            body=report.as_dict(),
        )
        return self._registry.lifecycle.record_gate_report(ref, decided, by=by)

    def _replay(self, record: VersionRecord, rows: Path, policies: Policies, output: Path) -> Replay:
        job = ReplayJob(
            source=code_of(record),
            classifier="" if record.project is None else record.project.classifier,
            artifacts=(self._registry.versions.tree(record.ref),),
            rows=rows,
            output=output,
            limits=policies.retraining.limits.limits,
        )
        return self._runner.replay(job).versions[0]

    def _evidence(
        self, record: VersionRecord, table: Table, target: str, policies: Policies, replay: Replay
    ) -> Evidence:
        task = policies.monitoring.task
        return Evidence(
            task=Task(record.task) if record.task in list(Task) else task,
            metric=policies.monitoring.metric,
            positive=policies.monitoring.positive_label,
            labels=table[target],
            candidate=answers_of(self._tables.read(replay.predictions)),
            production=None,
            segments={},
            window_rows=len(table),
            training_rows=record.provenance.training_dataset_size or 0,
            schema_violations=None if record.signature is None else schema_violations(table, record.signature),
            candidate_latencies_ms=replay.latencies_ms,
            candidate_bytes=replay.artifact_bytes,
        )


def code_of(record: VersionRecord) -> CodeSource | None:
    """
    Give the code with which *record* is loaded; None for a model without a project.

    Raises:
        Conflict: The code is not on the hub's machine.
    """
    if record.project is None:
        return None
    directory, tag = Path(record.project.repository), record.project.tag or record.release_tag
    if tag is None or not directory.is_dir():
        raise Conflict(
            f"The code of {record.ref} is not on the hub's machine, so the hub cannot judge the version.",
            remedy="Train the version from a repository on that machine, or promote with an override.",
        )
    return CodeSource(project=directory, revision=tag)
