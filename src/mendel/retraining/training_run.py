"""A training run in durable steps: collect, train, register, replay, judge; the deployment is not changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from mendel.durable import Clock, Event, Payload, StepKey, Transaction, UnitOfWork, WorkflowContext
from mendel.errors import Conflict
from mendel.gates import Evidence, GateReport, judge
from mendel.registry import GateRecord, PolicyDocument, Provenance, Registration, Registry, VersionRecord
from mendel.registry.parity_rule import serves_without_parity, unaccepted_difference
from mendel.retraining.entities import Asked, Candidate, Collected, Replayed, Replays, RunFiles, Trained
from mendel.retraining.fingerprints import fingerprint
from mendel.retraining.gate_evidence import evidence_of, last_change, seed_of, spent_alpha
from mendel.retraining.label_supply import LabelSupply, Ready, may_start
from mendel.retraining.ports import (
    CodeSource,
    LabelledRows,
    LoadJob,
    OnProgress,
    Replay,
    ReplayJob,
    Runner,
    Tables,
    TrainJob,
    ignore_progress,
)
from mendel.retraining.training_data import TRAINED_UNTIL, Policies, divide, recent_rows, training_rows
from mendel.values import ModelName, Stage, Table, VersionRef, from_builtins, to_builtins
from mendel.values.parity import ParityReport

T = TypeVar("T")
ACTOR = "retraining"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """The data that all steps of one run share."""

    run_id: str
    files: RunFiles
    asked: Asked
    policies: Policies

    def output(self, job: str, collected: Collected) -> Path:
        """Give a job's output directory, which depends on the collected rows."""
        return self.files.root / f"{job}-{collected.fingerprint.hex[:12]}"


class Retraining:
    """
    Runs training runs that end with a candidate.

    A run that is killed and resumed at any point ends like an uninterrupted run and registers one version; finished
    steps are not repeated.

    Args:
        unit: The unit of work for the events of runs.
        registry: The registry of versions, policies and gate reports.
        log: The log of predictions and labels.
        runner: The runner of the project's code.
        tables: Reads and writes the rows of runs.
        directory: The directory whose ``runs/<workflow id>`` has the files of each run.
        clock: Gives the current time.
        on_progress: Called with the progress of jobs, from their threads.
    """

    def __init__(
        self,
        *,
        unit: UnitOfWork,
        registry: Registry,
        log: LabelledRows,
        runner: Runner,
        tables: Tables,
        directory: Path,
        clock: Clock,
        on_progress: OnProgress = ignore_progress,
    ) -> None:
        self._unit = unit
        self._registry = registry
        self._log = log
        self._runner = runner
        self._tables = tables
        self._directory = directory
        self._clock = clock
        self._on_progress = on_progress

    def supply(
        self, model: ModelName, document: PolicyDocument, now: datetime, *, since: datetime | None = None
    ) -> LabelSupply:
        """
        Give the labels that a run of *model* at *now* could use; :func:`may_start` decides whether they are enough.
        """
        policies = Policies.of(document)
        rows = recent_rows(self._log, self._production(model), policies.retraining, now=now, since=since)
        return rows.supply(policies)

    def run(self, run: WorkflowContext, payload: Payload) -> Payload:
        """
        Train one candidate and have the gates judge it; this is the function of the workflow ``retrain``.

        Args:
            payload: ``model``, ``cause``, and optionally ``since`` (RFC 3339).

        Returns:
            ``candidate``, ``production``, ``verdict``, ``report`` (its digest) and ``text``.

        Raises:
            Conflict: The run cannot start; the message says what is missing.
            RunnerError: The project's code failed or exceeded its limits.
        """
        asked = Asked.of(payload)
        attempt = _Attempt(
            run_id=run.id,
            files=RunFiles(root=self._directory / "runs" / _UNSAFE.sub("_", run.id)),
            asked=asked,
            policies=Policies.of(self._registry.policies.of(asked.model)),
        )
        collected = _step(run, "collect", Collected, lambda: self._collect(attempt))
        production = self._registry.versions.get(VersionRef(asked.model, collected.production))
        trained = _step(run, "train", Trained, lambda: self._train(attempt, collected, production))
        registered = run.step(
            "register", lambda: {"version": self._register(attempt, collected, production, trained).number}
        )
        candidate = self._registry.versions.get(VersionRef(asked.model, registered["version"]))
        replays = _step(run, "replay", Replays, lambda: self._replay(attempt, collected, candidate, production))

        def judged() -> Payload:
            self._leave_development(candidate, production, replays.candidate.parity)
            report = self._judged(attempt, collected, candidate, production, replays)
            return Candidate.judged(candidate.ref, production.ref, report).as_payload()

        return run.step("gates", judged)

    def _production(self, model: ModelName) -> VersionRecord:
        number = self._registry.lifecycle.deployment(model).production
        if number is None:
            raise Conflict(
                f"The model {model} has no production version to retrain.",
                remedy="Register and promote a version first.",
            )
        return self._registry.versions.get(VersionRef(model, number))

    def _collect(self, attempt: _Attempt) -> Collected:
        asked, policies, files = attempt.asked, attempt.policies, attempt.files
        now, production = self._clock(), self._production(asked.model)
        source = _source(production)
        rows = recent_rows(self._log, production, policies.retraining, now=now, since=asked.since)
        if not isinstance(verdict := may_start(rows.supply(policies)), Ready):
            raise Conflict(f"The retraining of {asked.model} cannot start: {verdict.why}.")
        if production.signature is None or not production.signature.names:
            raise Conflict(
                f"{production.ref} cannot be retrained: the version has no signature with named columns.",
                remedy="Register a version with a signature or with training data.",
            )
        division = divide(rows, policies, production.signature, since=asked.since)
        shutil.rmtree(files.root, ignore_errors=True)
        base = self._base_rows(attempt, production, source, division.cut)
        training = training_rows(base, division.recent)
        self._tables.write(training, files.training)
        self._tables.write(division.evaluation, files.evaluation)
        self._tables.write(division.expected, files.expected)
        known = fingerprint(training)
        collected = Collected(
            production=production.number,
            started=now,
            cut=division.cut,
            answered=division.answered,
            base_rows=0 if base is None else len(base),
            recent_rows=len(division.recent),
            evaluation_rows=len(division.evaluation),
            fingerprint=known.digest,
            missing=known.missing,
            duplicates=known.duplicates,
        )
        self._tell(attempt, "retraining.started", production.ref, now, {"cause": asked.cause.value, **_rows(collected)})
        return collected

    def _base_rows(
        self, attempt: _Attempt, production: VersionRecord, source: CodeSource, until: datetime
    ) -> Table | None:
        """
        Load production's training rows with the project's function or from the stored copy; None if unavailable or not
        wanted.
        """
        policy = attempt.policies.retraining
        if not policy.keep_base:
            return None
        if policy.load is not None:
            job = LoadJob(
                source=source,
                function=f"{policy.module}:{policy.load}",
                until=until.isoformat(),
                output=attempt.files.root / "load",
                limits=policy.limits.limits,
            )
            return self._tables.read(self._runner.load(job, self._on_progress).table)
        kept = self._registry.versions.data(production.ref)
        place = None if kept is None else kept / attempt.files.training.name
        return None if place is None or not place.is_file() else self._tables.read(place)

    def _train(self, attempt: _Attempt, collected: Collected, production: VersionRecord) -> Trained:
        policies, files = attempt.policies, attempt.files
        policy = policies.retraining
        job = TrainJob(
            source=_source(production),
            classifier=production.project.classifier if production.project else str(production.model),
            function=f"{policy.module}:{policy.function}",
            task=policies.monitoring.task.value,
            training=files.training,
            target=policies.target,
            positive=policies.monitoring.positive_label,
            seed=policy.seed,
            output=attempt.output("train", collected),
            holdout=files.evaluation,
            reference=files.expected,
            limits=policy.limits.limits,
        )
        done = self._runner.train(job, self._on_progress)
        return Trained(
            artifact=str(done.artifact), metrics=done.metrics, rows=done.rows, seconds=done.duration.total_seconds()
        )

    def _register(
        self, attempt: _Attempt, collected: Collected, production: VersionRecord, trained: Trained
    ) -> VersionRecord:
        request = Registration(
            model=production.model,
            flavor="mendel",
            task=attempt.policies.monitoring.task.value,
            idempotency_key=f"{attempt.run_id}:{collected.fingerprint.hex[:12]}",
            code_digest=production.code_digest,
            lock_digest=production.lock_digest,
            release_tag=production.release_tag,
            project=production.project,
            parent=production.ref,
            training_fingerprint=collected.fingerprint,
            metrics=trained.metrics,
            metadata={
                TRAINED_UNTIL: collected.cut.isoformat(),
                "run": attempt.run_id,
                "cause": attempt.asked.cause.value,
                "policy_hash": attempt.policies.hash,
                **_rows(collected),
            },
            owner=production.owner,
            team=production.team,
            framework=production.framework,
            provenance=Provenance(
                training_dataset_size=trained.rows,
                training_timestamp=collected.started,
                training_duration=timedelta(seconds=trained.seconds),
                git_commit_hash=production.provenance.git_commit_hash,
                image_digest=production.provenance.image_digest,
            ),
            expectations=production.expectations,
        )
        return self._registry.versions.register(request, Path(trained.artifact), data=attempt.files.data, by=ACTOR)

    def _replay(
        self, attempt: _Attempt, collected: Collected, candidate: VersionRecord, production: VersionRecord
    ) -> Replays:
        job = ReplayJob(
            source=_source(production),
            classifier="" if production.project is None else production.project.classifier,
            artifacts=(self._registry.versions.tree(candidate.ref), self._registry.versions.tree(production.ref)),
            rows=attempt.files.evaluation,
            output=attempt.output(f"replay-{candidate.number}-{production.number}", collected),
            limits=attempt.policies.retraining.limits.limits,
        )
        now, before = self._runner.replay(job, self._on_progress).versions
        return Replays(candidate=_replayed(now), production=_replayed(before))

    def _leave_development(
        self, candidate: VersionRecord, production: VersionRecord, parity: ParityReport | None
    ) -> None:
        """
        Move the candidate to sandbox after the replay, a new Python process, has checked its parity.

        A candidate whose parity is not measured goes on only if the version that it replaces serves without parity.

        Raises:
            Conflict: The candidate's served answers differ from the model's own, or its parity is not measured.
        """
        lifecycle, ref = self._registry.lifecycle, candidate.ref
        if parity is None or self._registry.versions.get(ref).stage is not Stage.DEVELOPMENT:
            return  # an old run registered its candidate in sandbox; or a killed step had moved it
        record = self._registry.parity.record_clean(ref, parity, by=ACTOR)
        if (difference := unaccepted_difference(record)) is not None:  # this text goes to the ledger: without values
            raise Conflict(
                f"{ref} cannot leave the stage development: its answers differ from the trained model's "
                f"({difference.reason}).",
                remedy=f"See both answers with: mendel parity show {ref}",
            )
        why = f"{production.ref}, which it is to replace, serves without parity, too"
        lifecycle.transition(
            ref,
            Stage.SANDBOX,
            by=ACTOR,
            reason=f"retrained to replace {production.ref}",
            without_parity=why if serves_without_parity(production) else None,
        )

    def _judged(
        self,
        attempt: _Attempt,
        collected: Collected,
        candidate: VersionRecord,
        production: VersionRecord,
        replays: Replays,
    ) -> GateReport:
        if known := self._registry.lifecycle.gate_records(candidate.ref):  # this step was killed after storing it
            return from_builtins(known[-1].body, GateReport)
        evidence = self._evidence(attempt, collected, candidate, production, replays)
        report = judge(evidence, attempt.policies.gates, seed_of(collected))
        now = self._clock()
        record = GateRecord(
            report_digest=report.digest,
            passed=report.promotes,
            verdict=report.verdict.value,
            at=now,
            body=report.as_dict(),
        )
        self._registry.lifecycle.record_gate_report(
            candidate.ref, record, by=ACTOR, step=StepKey(workflow_id=attempt.run_id, step=f"gates {candidate.ref}")
        )
        finished = {"production": str(production.ref), "verdict": record.verdict, "report": record.report_digest}
        self._tell(attempt, "retraining.finished", candidate.ref, now, finished)
        return report

    def _evidence(
        self,
        attempt: _Attempt,
        collected: Collected,
        candidate: VersionRecord,
        production: VersionRecord,
        replays: Replays,
    ) -> Evidence:
        signature = candidate.signature or production.signature
        if signature is None:
            raise Conflict(
                f"{candidate.ref} cannot be evaluated: neither this version nor the production version has a signature."
            )
        changed = last_change(self._registry.lifecycle.history(production.model))
        answers = [Path(replay.predictions) for replay in (replays.candidate, replays.production)]
        return evidence_of(
            self._tables.read(attempt.files.evaluation),
            (self._tables.read(answers[0]), self._tables.read(answers[1])),
            replays,
            collected,
            attempt.policies,
            signature=signature,
            cause=attempt.asked.cause,
            since_change=None if changed is None else collected.started - changed,
            alpha_spent=self._alpha_spent(attempt, candidate, collected.started, changed),
        )

    def _alpha_spent(
        self, attempt: _Attempt, candidate: VersionRecord, started: datetime, changed: datetime | None
    ) -> float:
        after = started - attempt.policies.gates.bounds.cooldown
        others = (record.ref for record in self._registry.versions.of(candidate.model) if record.ref != candidate.ref)
        records = [record for ref in others for record in self._registry.lifecycle.gate_records(ref)]
        return spent_alpha(records, after=after if changed is None else max(after, changed))

    def _tell(self, attempt: _Attempt, kind: str, subject: VersionRef, at: datetime, said: Payload) -> None:
        data = {"run": attempt.run_id, **said}
        event = Event(
            id=f"{attempt.run_id}/{kind}/{subject}", type=kind, subject=str(subject), time=at, actor=ACTOR, data=data
        )

        def work(tx: Transaction) -> Payload:
            tx.append(event)
            return {}

        self._unit.write_once(StepKey(workflow_id=attempt.run_id, step=f"{kind} {subject}"), work)


def _step(run: WorkflowContext, name: str, kind: type[T], act: Callable[[], T]) -> T:
    return from_builtins(run.step(name, lambda: to_builtins(act())), kind)


def _replayed(replay: Replay) -> Replayed:
    return Replayed(
        predictions=str(replay.predictions),
        artifact_bytes=replay.artifact_bytes,
        latencies_ms=replay.latencies_ms,
        parity=replay.parity,
    )


def _source(version: VersionRecord) -> CodeSource:
    """Give the version's project directory on this machine and its release tag."""
    project, tag = version.project, None if version.project is None else version.project.tag or version.release_tag
    if project is None or tag is None:
        raise Conflict(
            f"{version.ref} cannot be retrained: the version has no release tag, so its training code is unknown.",
            remedy="Register a version from a project with 'mendel tag' and 'mendel train'.",
        )
    directory = Path(project.repository)
    if not directory.is_dir():
        remedy = "Clone the repository to this machine and register a version from the clone."
        raise Conflict(f"The repository {project.repository} of {version.ref} is not on this machine.", remedy=remedy)
    return CodeSource(project=directory, revision=tag, locked=version.locked)


def _rows(collected: Collected) -> Payload:
    return {
        "base_rows": collected.base_rows,
        "recent_rows": collected.recent_rows,
        "evaluation_rows": collected.evaluation_rows,
    }
