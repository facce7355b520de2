"""Let the former version of a model answer the rows of an incident, and compare the versions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from mendel.drift import LabelledOutcomes, MonitoringPolicy, Profile, Reference, bootstrap, compare, metric
from mendel.errors import MendelError
from mendel.gates import latency_ratio
from mendel.healing.drift_and_quality_checks import Log, reference_of
from mendel.healing.entities import Incident, SignalKind
from mendel.healing.healing_facts import HealingFacts, read_healing_facts
from mendel.healing.ports import ReplayOutcome
from mendel.healing.remedies import Former
from mendel.registry import Registry, VersionRecord, exceeds
from mendel.retraining import Limits, Replay, ReplayJob, Runner, Tables, code_of, usable
from mendel.values import Measured, Table, VersionRef, Window, from_mapping

_FEATURE: Final = "feature."
_ROWS: Final = 500
"""The newest rows that are asked one at a time, so that a slow version answers within ``healing.replay_within``."""
_LABELLED_ROWS: Final = 5000
_FEWEST_ROWS: Final = 20
_DRAWS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """The versions and the policy of one comparison."""

    incident: Incident
    current: VersionRecord
    former: VersionRecord
    about: HealingFacts
    monitoring: MonitoringPolicy
    window: Window
    within: timedelta


class FormerReplay:
    """
    Implements :class:`mendel.healing.FormerVersion` with the runner, which loads the versions in another process.

    Errors and latency are compared by asking both versions the same rows; quality, by asking the former version the
    labelled rows. Drift and OOD rows, without enough labels, are compared with the reference of the former version.

    Args:
        log: The prediction log, with the rows of incidents.
        tables: Writes the rows for the runner, and reads the answers.
    """

    def __init__(self, registry: Registry, log: Log, *, runner: Runner, tables: Tables) -> None:
        self._registry = registry
        self._log = log
        self._runner = runner
        self._tables = tables

    def compare(self, incident: Incident, *, now: datetime, within: timedelta) -> ReplayOutcome:
        try:
            about = read_healing_facts(self._registry, incident.ref.model, now)
            if about.production != incident.ref:
                return _unknown(f"{incident.ref} is no longer in production")
            if about.return_to is None:
                return _unknown("the model has no former version to return to")
            return self._answer(self._question(incident, about, about.return_to, within))
        except MendelError as error:
            return _unknown(error.message)

    def _question(self, incident: Incident, about: HealingFacts, former: int, within: timedelta) -> _Question:
        document, versions = about.document, self._registry.versions
        start = incident.since or incident.opened_at - document.rollback.window
        return _Question(
            incident=incident,
            current=versions.get(incident.ref),
            former=versions.get(VersionRef(incident.ref.model, former)),
            about=about,
            monitoring=from_mapping(MonitoringPolicy, document.section("monitoring"), at="monitoring"),
            window=Window(min(start, about.at), about.at),
            within=within,
        )

    def _answer(self, asked: _Question) -> ReplayOutcome:
        kinds = set(asked.incident.kinds)
        if SignalKind.FAULTS in kinds:
            return self._by_failures(asked)
        if SignalKind.LATENCY in kinds:
            return self._by_latency(asked)
        labelled = usable(
            self._log.labelled(asked.current.model, asked.window, version=asked.current.number), include_simulated=True
        )
        if len(labelled) >= asked.monitoring.min_rows:
            return self._by_quality(asked, _newest(labelled, _LABELLED_ROWS))
        if SignalKind.QUALITY in kinds:
            return _unknown(f"{len(labelled)} labelled rows; monitoring.min_rows is {asked.monitoring.min_rows}")
        return self._by_reference(asked)

    def _by_failures(self, asked: _Question) -> ReplayOutcome:
        rows = _newest(self._rows(asked), _ROWS)
        if len(rows) < _FEWEST_ROWS:
            return _too_few(len(rows))
        half = asked.within / 2
        now, before = (
            self._replay((version,), rows, half, failures=True)[0].failed_rows / len(rows)
            for version in (asked.current, asked.former)
        )
        return judge_failures(now, before, len(rows), bound=asked.about.document.rollback.error_rate)

    def _by_latency(self, asked: _Question) -> ReplayOutcome:
        rows = _newest(usable(self._rows(asked), include_simulated=True), _ROWS)
        if len(rows) < _FEWEST_ROWS:
            return _too_few(len(rows))
        if code_of(asked.current) != code_of(asked.former):
            return _unknown("the versions need different code, so they cannot be timed side by side")
        now, before = self._replay((asked.current, asked.former), rows, asked.within)
        return judge_latency(now.latencies_ms, before.latencies_ms, bound=asked.about.document.rollback.latency_ratio)

    def _by_quality(self, asked: _Question, rows: Table) -> ReplayOutcome:
        with tempfile.TemporaryDirectory(prefix="mendel-replay-") as scratch:
            (replay,) = self._run((asked.former,), rows, asked.within, Path(scratch), failures=False)
            answers = self._tables.read(replay.predictions)
        former = Table({**{name: answers[name] for name in answers.names}, "label": rows["label"]})
        return judge_quality(rows, former, asked.monitoring)

    def _by_reference(self, asked: _Question) -> ReplayOutcome:
        reference = reference_of(self._registry.versions.tree(asked.former.ref))
        if reference is None:
            return _unknown(f"{asked.former.ref} has no drift reference, and the rows have too few labels")
        rows = _features(self._rows(asked))
        if len(rows) < asked.monitoring.min_rows:
            return _unknown(f"{len(rows)} rows; monitoring.min_rows is {asked.monitoring.min_rows}")
        rollback = asked.about.document.rollback
        return judge_reference(
            asked.incident.kinds,
            rows,
            reference,
            asked.monitoring,
            drift_kl=rollback.drift_kl,
            ood_rate=rollback.ood_rate,
        )

    def _rows(self, asked: _Question) -> Table:
        rows = self._log.predictions(asked.current.model, asked.window, version=asked.current.number)
        return rows.take(~rows["shadow"].astype(bool)) if len(rows) else rows

    def _replay(
        self, versions: Sequence[VersionRecord], rows: Table, within: timedelta, *, failures: bool = False
    ) -> tuple[Replay, ...]:
        with tempfile.TemporaryDirectory(prefix="mendel-replay-") as scratch:
            return self._run(versions, rows, within, Path(scratch), failures=failures)

    def _run(
        self, versions: Sequence[VersionRecord], rows: Table, within: timedelta, scratch: Path, *, failures: bool
    ) -> tuple[Replay, ...]:
        first = versions[0]
        self._tables.write(_features(rows), scratch / "rows.parquet")
        job = ReplayJob(
            source=code_of(first),
            classifier="" if first.project is None else first.project.classifier,
            artifacts=tuple(self._registry.versions.tree(version.ref) for version in versions),
            rows=scratch / "rows.parquet",
            output=scratch / "job",
            failures=failures,
            limits=Limits(time=within),
        )
        return self._runner.replay(job).versions


def judge_failures(now: float, before: float, rows: int, *, bound: float) -> ReplayOutcome:
    """
    Compare the shares of *rows* that the current (*now*) and the former version (*before*) failed to answer.

    >>> judge_failures(0.5, 0.0, 100, bound=0.05).former, judge_failures(0.5, 0.5, 100, bound=0.05).former
    (<Former.BETTER: 'better'>, <Former.AS_BAD: 'as_bad'>)
    """
    told = f"of {rows} rows, the version failed on {now:.2%} and the former version on {before:.2%}"
    if not exceeds(now, bound):
        return _unknown(f"the replay does not show the errors: {told}")
    return ReplayOutcome(former=Former.AS_BAD if exceeds(before, bound) else Former.BETTER, text=told)


def judge_latency(now_ms: Sequence[float], before_ms: Sequence[float], *, bound: float) -> ReplayOutcome:
    """Compare the latencies of both versions, timed side by side; *bound* is the policy's ``latency_ratio``."""
    ratio = latency_ratio(now_ms, before_ms)
    if not isinstance(ratio, Measured):
        return _unknown(str(ratio))
    told = f"the p95 latency of the version is {ratio.value:.2f} times that of the former version (bound {bound:.2f})"
    return ReplayOutcome(former=Former.BETTER if exceeds(ratio.value, bound) else Former.AS_BAD, text=told)


def judge_quality(now: Table, before: Table, policy: MonitoringPolicy) -> ReplayOutcome:
    """
    Compare the quality of both versions on the same labelled rows.

    The former version does better if the whole 95 % interval of the difference, from a paired bootstrap, is above 0.
    """
    chosen = metric(policy.metric)
    pair = [LabelledOutcomes.of(one, task=policy.task, positive=policy.positive_label) for one in (now, before)]
    if not len(pair[0]) or len(pair[0]) != len(pair[1]):
        return _unknown("the versions did not answer the same rows")
    scores = bootstrap(chosen, pair, np.random.default_rng(0), draws=_DRAWS)
    gains = (scores[:, 1] - scores[:, 0]) * (1 if chosen.higher_is_better else -1)
    if np.isnan(gains).all():
        return _unknown(f"{chosen.name} is undefined on these rows")
    low, middle, high = (float(value) for value in np.nanquantile(gains, (0.025, 0.5, 0.975)))
    told = f"{chosen.name} of the former version is better by {middle:.4f} ({low:.4f} to {high:.4f}, {len(now)} rows)"
    return ReplayOutcome(former=Former.BETTER if low > 0 else Former.AS_BAD, text=told)


def judge_reference(
    kinds: Sequence[SignalKind],
    rows: Table,
    reference: Reference,
    policy: MonitoringPolicy,
    *,
    drift_kl: float,
    ood_rate: float,
) -> ReplayOutcome:
    """
    Compare *rows* with the reference of the former version, by the bounds that raised signals of *kinds*.

    The former version does better if no bound is crossed.
    """
    report = compare(reference, Profile.of(reference, rows), policy)
    score = report.input_drift_score.value if isinstance(report.input_drift_score, Measured) else None
    outside = float(reference.out_of_range(rows).mean())
    crossed = {
        SignalKind.DRIFT: report.drift_detected,
        SignalKind.DRIFT_SCORE: None if score is None else exceeds(score, drift_kl),
        SignalKind.OOD: exceeds(outside, ood_rate),
    }
    found = [crossed[kind] for kind in kinds if kind in crossed]
    told = f"against the reference of the former version: {report}; OOD rate {outside:.2%}"
    if not found or (None in found and True not in found):
        return _unknown(told)
    return ReplayOutcome(former=Former.AS_BAD if True in found else Former.BETTER, text=told)


def _features(rows: Table) -> Table:
    return Table({name.removeprefix(_FEATURE): rows[name] for name in rows.names if name.startswith(_FEATURE)})


def _newest(rows: Table, count: int) -> Table:
    return rows.take(np.arange(max(0, len(rows) - count), len(rows)))


def _unknown(why: str) -> ReplayOutcome:
    return ReplayOutcome(former=Former.UNKNOWN, text=why)


def _too_few(rows: int) -> ReplayOutcome:
    return _unknown(f"the prediction log has {rows} rows of the incident; {_FEWEST_ROWS} are needed")
