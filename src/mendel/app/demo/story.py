"""The parts of the demo: release, traffic, drift and retraining, bad version and rollback, killed hub, proof."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from mendel.app.demo.demo_processes import HOST, PATIENCE_S, Stage, free_ports, seconds
from mendel.app.demo.demo_project import Rows, World, digits_world, make_project, table_world
from mendel.app.demo.door_clients import DoorClients
from mendel.app.demo.faulty_version import register_faulting_version
from mendel.app.demo.narrator import Narrator, clock
from mendel.app.demo.traffic import Sent, Traffic
from mendel.durable import LedgerEntry
from mendel.errors import Conflict, DeadlineExceeded, MendelError
from mendel.healing import Incident, IncidentStatus, PlaybookRun
from mendel.transports.door_table import DOORS
from mendel.values import ModelName, VersionRef

RATE = 70.0
RATE_AGAIN = 40.0
"""Requests per second with rows that were sent before: enough for the monitor, and training gets the other time."""
LABEL_DELAY_S = 1.0
SETTINGS = {
    "MENDEL_SERVING__WORKERS": "2",
    "MENDEL_SERVING__REPORT_EVERY": "1s",
    "MENDEL_SPOOL__SEAL_AFTER": "1s",
    "MENDEL_HUB__SHIP_EVERY": "3s",
    "MENDEL_HUB__ANCHOR_EVERY": "5s",
}
"""The settings of the demo that differ from the defaults: short intervals, so that nobody waits for them."""

POLICY: dict[str, Any] = {
    "monitoring": {"every": "2s", "lookback": "8s"},
    "gates": {"cooldown": "1s"},
    "retraining": {"min_coverage": 0.0},
    "governance": {"inherit": True},
    "healing": {
        "autonomy": {"rollback": "act", "retrain": "act", "promote": "act"},
        "cooldown": "2s",
        "bake": "60s",
        "effect_within": "45s",
    },
    "rollback": {"window": "10s"},
}
"""The policy of the demo where it differs from the defaults: windows and cooldowns of seconds, and automatic promotion.

Retraining needs a number of labels but no label coverage, because rows that are sent again get no label. A candidate
with the same code and signature inherits the governance flags of the production version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """
    The arguments of ``mendel demo``.

    ``data`` is a table file; None uses handwritten digits. ``keep`` True leaves hub and server running at the end.
    """

    data: Path | None = None
    target: str | None = None
    keep: bool = False


@dataclass(slots=True, kw_only=True)
class _Findings:
    """Measurements of the demo that its last part reports."""

    quality: dict[str, float] = field(default_factory=dict)
    bad_to_decision: float | None = None
    decision_to_return: float | None = None
    recovered: bool = False


def play(options: DemoOptions, narrator: Narrator) -> None:
    """
    Run the whole demo.

    Raises:
        MendelError: A step of the demo had another result than expected.
    """
    directory = Path(tempfile.mkdtemp(prefix="mendel-demo-"))
    done = False
    try:
        Story(directory, options, narrator).play()
        done = True
    finally:
        if done and not options.keep:
            _remove(directory)
        elif not done:
            narrator.tell(f"The files of the demo are in {directory}", good=False)


class Story:
    """One run of the demo in *directory*."""

    def __init__(self, directory: Path, options: DemoOptions, narrator: Narrator) -> None:
        self._directory = directory
        self._options = options
        self._tell = narrator
        self._findings = _Findings()

    def play(self) -> None:
        """Run all parts of the demo in order."""
        with self._tell.waiting("A project is made in a new git repository ..."):
            project = make_project(self._directory, self._options.target)
        stage = self._stage(project)
        with stage.up():
            with self._tell.waiting("mendel up starts; the rows are read ..."):
                world = self._world(project)
            self._release(stage, world)
            stage.wait(lambda: bool(stage.data.server_ports()), "the server")
            ports = stage.data.server_ports()
            doors = DoorClients(HOST, ports, world.classifier)
            listening = ", ".join(f"{door} on {numbers[0]}" for door, numbers in ports.items() if numbers)
            self._tell.tell(f"mendel up: {listening}.")
            with doors, Traffic(doors.all, stage.post_labels, rate=RATE, label_delay=LABEL_DELAY_S) as traffic:
                self._await_ready(stage, world)
                rows = world.rows()
                self._calm(stage, world, rows, traffic)
                self._drift(stage, world, rows, traffic)
                self._bad_version(stage, world, rows, traffic)
                self._kill_the_hub(stage, world, rows, traffic)
                traffic.settle()
                self._report(stage, world, traffic)
            if self._options.keep:
                self._keep(stage, world)

    def _world(self, project: Path) -> World:
        if self._options.data is None:
            return digits_world(project)
        return table_world(project, self._options.data.absolute(), self._options.target or "")

    def _stage(self, project: Path) -> Stage:
        keys = ("MENDEL_HUB__PORT", *(f"MENDEL_SERVING__{door.ports.key.upper()}" for door in DOORS))
        ports = dict(zip(keys, map(str, free_ports(len(keys))), strict=True))
        return Stage(
            directory=self._directory / ".mendel",
            project=project,
            log=self._directory / "mendel.log",
            settings=SETTINGS | ports,
        )

    # -- 1 --

    def _release(self, stage: Stage, world: World) -> None:
        self._tell.act(1, "A release: tagged, trained, registered, promoted")
        self._tell.tell(f"Data: {world.source}.")
        stage.command("tag", "minor", "--allow-missing-mlserver", "--classifier", world.classifier)
        with self._tell.waiting("The hub starts ..."):
            stage.wait(lambda: stage.data.hub() is not None, "the hub")
        with self._tell.waiting("Training version 1 in a separate process ..."):
            stage.command("train", "--classifier", world.classifier, "--data", str(world.base))
        policy = self._write_policy(stage, world)
        stage.command("policy", "set", world.classifier, str(policy))
        with stage.client() as client:
            first = client.versions(world.classifier)[0]
            self._tell.tell(
                f"{first.ref} registered from release {first.release_tag}: "
                f"F1 {first.metrics['f1']:.3f} on held-out rows."
            )
        stage.command("approve", f"{world.classifier}@1", "--policy", "--bias")
        stage.command("stage", f"{world.classifier}@1", "sandbox")
        stage.command("promote", f"{world.classifier}@1", "--reason", "first release")
        self._tell.tell(f"{world.classifier}@1: development → sandbox → production, through gates and approval.")

    def _write_policy(self, stage: Stage, world: World) -> Path:
        """Write a policy file with the project's policy sections and the demo's changes, and give its path."""
        with stage.client() as client:
            body = client.policy(world.classifier).body
        for name, section in POLICY.items():
            body[name] = {**(body.get(name) or {}), **section}
        path = self._directory / "policy.yaml"
        path.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
        return path

    # -- 2 --

    def _await_ready(self, stage: Stage, world: World) -> None:
        with self._tell.waiting("Servers load version 1 ..."):
            stage.wait(lambda: self._serves(stage, world, 1), "version 1 to serve")

    def _serves(self, stage: Stage, world: World, version: int) -> bool:
        report = stage.ask(lambda client: client.servers())
        return any(
            one.version_serving == version and one.model == world.classifier
            for server in report
            for one in server.report.convergence
        )

    def _calm(self, stage: Stage, world: World, rows: Rows, traffic: Traffic) -> None:
        self._tell.act(2, "Traffic over REST, gRPC and ZMQ; labels arrive late")
        with self._tell.waiting("Applications send requests; labels follow ..."):
            sent = traffic.play(rows.take(280))
            traffic.settle()
        self._require_no_failure(traffic)
        self._findings.quality["calm"] = _accuracy(traffic.log)
        self._tell.tell(f"{sent} rows answered over three protocols, {traffic.tally.failed} failed.")
        with self._tell.waiting("The monitor checks the model ..."):
            told = stage.wait(lambda: self._nothing_to_do(stage, world), "the monitor to measure")
        self._tell.tell(told)

    def _nothing_to_do(self, stage: Stage, world: World) -> str | None:
        outlook = stage.ask(lambda client: client.observe(world.classifier))
        if outlook.signals:
            raise MendelError(f"The monitor reports {outlook.signals[0].reasons} although no fault was caused.")
        return outlook.nothing_to_do if any(looked.measured for looked in outlook.looked) else None

    # -- 3 --

    def _drift(self, stage: Stage, world: World, rows: Rows, traffic: Traffic) -> None:
        self._tell.act(3, f"An instrument is recalibrated: {len(world.shifted)} columns have shifted values")
        began = datetime.now(UTC)
        incident: Incident | None = None
        announced = False

        def promoted() -> bool:
            nonlocal incident, announced
            incident = incident or self._incident(stage, world, began)
            if incident is not None and not announced:
                announced = True
                self._tell.tell(f"{incident.id} ({incident.severity}): {incident.description}", good=False)
            deployment = stage.ask(lambda client: client.deployment(world.classifier))
            return (deployment.production or 0) > 1

        with self._tell.waiting("Recalibrated rows arrive; the monitor checks them ..."):
            self._play_until(rows, traffic, promoted, budget=760, what="a promoted candidate")
        self._findings.quality["drifted"] = _accuracy(traffic.since(began))
        run = stage.ask(lambda client: client.runs(world.classifier))[-1]
        new = stage.ask(lambda client: client.deployment(world.classifier)).production or 0
        self._tell.tell(f"Decision: {run.playbook} ({run.reason}).")
        record = stage.ask(lambda client: client.version(VersionRef(_name(world), new)))
        self._tell.tell(f"{record.ref} trained on {_rows_of(record.metadata)}, replayed, passed every gate, promoted.")
        with self._tell.waiting(f"Servers load version {new} ..."):
            served = f"version {new} to serve"
            self._play_until(rows, traffic, lambda: self._serves(stage, world, new), budget=0, what=served)
        changed = datetime.now(UTC)

        def answers() -> bool:
            return any(sent.answer.version == new for sent in traffic.since(changed))

        with self._tell.waiting("Quality recovers ..."):
            self._play_until(rows, traffic, answers, budget=0, what="an answer of the new version")
            traffic.play(rows.take(260, recalibrated=True))
            traffic.settle()
            self._await_run(stage, run.id)
        self._findings.quality["recovered"] = _accuracy([s for s in traffic.since(changed) if s.answer.version == new])
        quality = self._findings.quality
        self._tell.tell(
            f"Accuracy {quality['calm']:.3f} before, {quality['drifted']:.3f} while drifted, "
            f"{quality['recovered']:.3f} after; {traffic.tally.failed} requests failed during the change of version."
        )
        resolved = stage.wait(lambda: self._resolved(stage, world, began), "the incident to resolve")
        self._tell.tell(f"{resolved.id} is resolved: {resolved.timeline[-1].text}")

    # -- 4 --

    def _bad_version(self, stage: Stage, world: World, rows: Rows, traffic: Traffic) -> None:
        self._tell.act(4, "A person promotes a bad version with an override")
        serving = stage.ask(lambda client: client.deployment(world.classifier)).production or 0
        with stage.client() as client:
            bad = register_faulting_version(client, world)
        stage.command("approve", str(bad), "--policy", "--bias")
        stage.command("stage", str(bad), "sandbox")
        began = datetime.now(UTC)
        stage.command("promote", str(bad), "--override", "it looked fine on my laptop")
        self._tell.tell(
            f"{bad} is in production: the ledger records the override; the version could predict its input example.",
            good=False,
        )

        rolled_back: list[datetime] = []

        def back() -> bool:
            if not rolled_back:
                production = stage.ask(lambda client: client.deployment(world.classifier)).production
                rolled_back.extend([datetime.now(UTC)] if production == serving else [])
                return False
            answers = traffic.since(rolled_back[0])
            return any(sent.answer.ok and sent.answer.version == serving for sent in answers)

        with self._tell.waiting("Requests fail; the counters reach the hub ..."):
            self._play_until(rows, traffic, back, budget=0, what="the former version")
        traffic.settle()
        first_bad = self._first_bad(traffic, began)
        decided = self._event_time(stage, "decision.made", after=first_bad, playbook="model_rollback")
        last_bad = max(s.at for s in traffic.since(began) if not s.answer.ok)
        returned = min(s.at for s in traffic.since(last_bad) if s.answer.ok and s.answer.version == serving)
        self._findings.bad_to_decision = (decided - first_bad).total_seconds()
        self._findings.decision_to_return = (returned - decided).total_seconds()
        self._tell.tell(
            f"First bad answer {clock(first_bad)}; decision after {seconds(decided - first_bad)}; version {serving} "
            f"answered {seconds(returned - decided)} later (last fault {clock(last_bad)})."
        )
        tally = traffic.tally
        self._tell.tell(
            f"{tally.model_faults} requests failed because of the bad version, {tally.failed} for other reasons."
        )

    def _first_bad(self, traffic: Traffic, began: datetime) -> datetime:
        return min(
            (s.at for s in traffic.since(began) if s.answer.model_fault), default=datetime.max.replace(tzinfo=UTC)
        )

    # -- 5 --

    def _kill_the_hub(self, stage: Stage, world: World, rows: Rows, traffic: Traffic) -> None:
        self._tell.act(5, "The hub is killed in the middle of a playbook")
        before = len(stage.ask(lambda client: client.versions(world.classifier)))
        with self._tell.waiting("The effect of the rollback is measured ..."):
            self._play_until(rows, traffic, lambda: not self._running(stage, world), budget=0, what="playbooks to end")
        with self._tell.waiting("A person starts a retraining ..."):
            run = self._start_retraining(stage, world, rows, traffic)
        with self._tell.waiting("A retraining runs ..."):
            stage.wait(lambda: self._in_the_middle(stage, run.id), "the training to begin")
        pid = stage.kill_hub()
        killed = datetime.now(UTC)
        self._tell.tell(
            f"SIGKILL to the hub (pid {pid}) while {run.id} was training; servers keep answering.", good=False
        )
        with self._tell.waiting("mendel up starts the hub again; the playbook resumes ..."):
            traffic.play(rows.take(60, recalibrated=True))
            ended = self._await_run(stage, run.id)
        after = len(stage.ask(lambda client: client.versions(world.classifier)))
        once = self._once(stage, run.id)
        self._tell.tell(
            f"{run.id} ended {ended.state} {seconds(datetime.now(UTC) - killed)} later: {ended.steps[-1].text}; "
            f"{after - before} candidate registered, {once}."
        )
        if after - before != 1:
            raise MendelError(f"The killed run registered {after - before} versions, not 1.")

    def _start_retraining(self, stage: Stage, world: World, rows: Rows, traffic: Traffic) -> PlaybookRun:
        """Request a retraining repeatedly until there are enough labels; keep sending labelled rows meanwhile."""
        end, told = time.monotonic() + PATIENCE_S, ""
        why = "a person starts a retraining"
        while True:
            try:
                return stage.ask(lambda client: client.start_playbook(world.classifier, "retrain", reason=why))
            except Conflict as error:
                if time.monotonic() > end:
                    raise
                if str(error) != told:
                    told = str(error)
                    self._tell.tell(told, good=False)
            traffic.play(rows.take(35, recalibrated=True))
            traffic.settle()

    def _in_the_middle(self, stage: Stage, run_id: str) -> bool:
        if any((stage.directory / "runs" / run_id / "data").glob("*")):
            return True
        run = stage.ask(lambda client: client.run(run_id))
        if run.state.over:
            raise MendelError(f"{run_id} ended {run.state} before it trained: {run.steps[-1].text}")
        return False

    def _once(self, stage: Stage, run_id: str) -> str:
        entries = [e for e in _ledger(stage) if run_id in str(e.event.data) or e.event.actor.endswith(run_id)]
        part = [str(e.event.data.get("step") or e.event.data.get("to_stage", "")) for e in entries]
        keys = [(e.event.type, e.event.subject, what) for e, what in zip(entries, part, strict=True)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise MendelError(f"The killed run recorded a change twice: {twice}.")
        return f"each of its {len(keys)} recorded changes once"

    # -- 6 --

    def _report(self, stage: Stage, world: World, traffic: Traffic) -> None:
        self._tell.act(6, "What happened, and the proof")
        shown = {
            "model.registered", "model.promoted", "model.rollback", "incident.opened", "incident.resolved",
            "decision.made", "gate.decided", "playbook.started", "playbook.finished", "model.drift_detected",
        }  # fmt: skip
        entries = [entry for entry in _ledger(stage) if entry.event.type in shown]
        self._tell.table(
            "The ledger, abridged",
            ("#", "Time", "Event", "Subject", "By", "Evidence"),
            [
                (str(e.sequence), clock(e.event.time), e.event.type, e.event.subject, e.event.actor, _evidence(e))
                for e in entries
            ],
        )
        tally, findings = traffic.tally, self._findings
        doors = ", ".join(f"{count} {door}" for door, count in sorted(tally.by_door.items()))
        self._tell.tell(
            f"Requests: {tally.sent} sent ({doors}), {tally.answered} answered, "
            f"{tally.model_faults} failed because of the bad version, {tally.failed} for other reasons."
        )
        self._tell.tell(f"Labels: {tally.labels} given.")
        if findings.bad_to_decision is not None and findings.decision_to_return is not None:
            self._tell.tell(
                f"Rollback: decided {findings.bad_to_decision:.1f} s after the first bad answer, "
                f"the former version answered {findings.decision_to_return:.2f} s after the decision."
            )
        proof = stage.ask(lambda client: client.verify_ledger())
        for finding in proof.findings:
            self._tell.tell(f"Ledger: {finding.message}")
        if proof.holds:
            self._tell.tell(f"Ledger verified: {proof.last} entries, anchored by signature up to {proof.anchored}.")
        replayed = stage.ask(lambda client: client.backtest())
        self._tell.tell(f"Backtest: {replayed.looks} looks decided again, {replayed.equal} with the stored result.")
        serving = stage.ask(lambda client: client.deployment(world.classifier)).production
        card = self._directory / "card.md"
        card.write_text(stage.ask(lambda client: client.card(f"{world.classifier}@{serving}")), encoding="utf-8")
        kept = "" if self._options.keep else "; with --keep, these files stay"
        self._tell.tell(f"Model card: {card}{kept}")
        policy = self._directory / "policy.yaml"
        self._tell.box(f"The policy that was used ({policy})", policy.read_text(encoding="utf-8").rstrip())
        self._require_no_failure(traffic)
        self._tell.tell(f"Done in {self._tell.elapsed:.0f} s.")

    def _keep(self, stage: Stage, world: World) -> None:
        self._tell.tell(
            f"Hub and server keep running in {self._directory}; try: mendel incidents --directory {stage.directory}"
        )
        self._tell.tell(f"The project is {world.project}. Stop with Ctrl-C.")
        if stage.process is not None:
            stage.process.wait()

    # -- helpers of the acts --

    def _require_no_failure(self, traffic: Traffic) -> None:
        if traffic.tally.failed:
            raise MendelError(f"{traffic.tally.failed} requests failed, first: {traffic.tally.failures[0]}")

    def _play_until(self, rows: Rows, traffic: Traffic, reached: Callable[[], bool], *, budget: int, what: str) -> None:
        """
        Send new rows with drift and labels, at most *budget* rows, until *reached* gives True.

        After *budget* rows, send earlier rows again without labels: requests continue, but no label counts twice.
        """
        fresh = rows.take(budget, recalibrated=True)
        played = traffic.play(fresh, until=reached)
        rows.give_back(len(fresh) - played)
        end = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > end:
                raise DeadlineExceeded(f"Waited {PATIENCE_S:.0f} s for {what}.")
            traffic.play(rows.again(), labelled=False, until=reached, rate=RATE_AGAIN)

    def _incident(self, stage: Stage, world: World, after: datetime) -> Incident | None:
        found = stage.ask(lambda client: client.incidents(world.classifier))
        return next((one for one in found if one.opened_at > after), None)

    def _resolved(self, stage: Stage, world: World, after: datetime) -> Incident | None:
        incident = self._incident(stage, world, after)
        return incident if incident is not None and incident.status is IncidentStatus.RESOLVED else None

    def _running(self, stage: Stage, world: World) -> bool:
        return any(not run.state.over for run in stage.ask(lambda client: client.runs(world.classifier)))

    def _await_run(self, stage: Stage, run_id: str) -> PlaybookRun:
        def ended() -> PlaybookRun | None:
            run = stage.ask(lambda client: client.run(run_id))
            return run if run.state.over else None

        return stage.wait(ended, f"{run_id} to end")

    def _event_time(self, stage: Stage, kind: str, *, after: datetime, playbook: str) -> datetime:
        def found() -> datetime | None:
            times = [
                e.event.time
                for e in _ledger(stage)
                if e.event.type == kind and e.event.time > after and e.event.data.get("playbook") == playbook
            ]
            return min(times, default=None)

        return stage.wait(found, kind)


def _accuracy(sent: list[Sent]) -> float:
    answered = [one for one in sent if one.answer.ok]
    right = sum(str(one.answer.prediction) == str(_plain(one.truth)) for one in answered)
    return right / len(answered) if answered else float("nan")


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _name(world: World) -> ModelName:
    return ModelName(world.classifier)


def _rows_of(metadata: dict[str, Any]) -> str:
    return f"{metadata.get('base_rows', 0)} old and {metadata.get('recent_rows', 0)} new rows"


def _ledger(stage: Stage) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    after: int | None = 0
    while after is not None:
        page = stage.ask(lambda client, at=after: client.events(after=at))  # type: ignore[misc]
        entries.extend(page.entries)
        after = page.next
    return entries


def _evidence(entry: LedgerEntry) -> str:
    data = entry.event.data
    shown = (
        "reason",
        "reasons",
        "verdict",
        "playbook",
        "override",
        "state",
        "text",
        "drift_share",
        "version",
        "from_version",
        "to_version",
    )
    said = [f"{key}: {_short(data[key])}" for key in shown if data.get(key) not in (None, "", [])]
    return "; ".join(said)


def _short(value: Any, most: int = 110) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
