"""The slow checks of one version: drift from profiles, and quality from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mendel.drift import (
    Band,
    DriftReport,
    LabelledOutcomes,
    MonitoringPolicy,
    Profile,
    Quality,
    QualityReading,
    Reference,
    compare,
    evaluate_quality,
    is_drift_confirmed,
    merge_profiles,
    quality_signal,
)
from mendel.healing.entities import Evidence, Finding, Signal, SignalKind
from mendel.healing.fast_checks import Findings
from mendel.predictions import ProfileRow
from mendel.registry import VersionRecord
from mendel.values import Measured, ModelName, NotMeasured, Severity, Table, VersionRef, Window, from_micros

_STARTS = 64
_DATING_ROWS = 30
REFERENCE = Path("mendel") / "reference.json"
_NO_LABELS = NotMeasured(reason="no labelled prediction", have=0)


class Log(Protocol):
    """The part of :class:`mendel.predictions.PredictionLog` that healing reads."""

    def labelled(self, model: ModelName, window: Window, *, version: int | None = None) -> Table:
        """Predictions of the window with their labels, in the column ``label``."""

    def predictions(
        self, model: ModelName, window: Window, *, version: int | None = None, columns: Sequence[str] | None = None
    ) -> Table:
        """Predictions of the window, oldest first; only *columns*, where they are given."""

    def profile_rows(self, model: ModelName, version: int, reference_id: str, window: Window) -> tuple[ProfileRow, ...]:
        """Give the profiles whose own time window starts in *window*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityLook:
    """The quality reading of a window, and whether the version's first labelled rows were low too."""

    reading: QualityReading
    low_from_the_start: bool


def windows(policy: MonitoringPolicy, now: datetime) -> tuple[Window, ...]:
    """Give the windows that must agree on drift, oldest first: each of length ``lookback``, ending ``every`` apart."""
    end = Window.containing(now, policy.every).start
    return tuple(Window.before(end - policy.every * back, policy.lookback) for back in reversed(range(policy.confirm)))


def reference_of(tree: Path) -> Reference | None:
    """The reference stored with a version's files; None if the version was registered without training data."""
    path = tree / REFERENCE
    return Reference.from_json(path.read_bytes()) if path.is_file() else None


def drift_report(
    log: Log, ref: VersionRef, reference: Reference, window: Window, policy: MonitoringPolicy
) -> DriftReport:
    """Compare the rows of *window*, summed from profiles, with *reference*."""
    rows = log.profile_rows(ref.model, ref.number, reference.id, window)
    profile = merge_profiles(reference, [Profile.from_json(row.profile) for row in rows])
    return compare(reference, profile, policy, window=window)


def onset(log: Log, ref: VersionRef, reference: Reference, window: Window, policy: MonitoringPolicy) -> datetime | None:
    """
    Estimate when the rows of *window* began to differ from the reference, as the most likely single change.

    A grain is the time window of one profile. Of at most 64 grain starts t, the function chooses the one that maximises
    n(t) * KL(t) over the rows after t: the log-likelihood ratio of "equal to the reference before t, different after t"
    (Page 1954). The result is the end of that grain, because some rows of the grain may precede the change; for the
    newest grain, the result is its start. None if no grain can be measured.
    """
    policy = replace(policy, min_rows=min(policy.min_rows, _DATING_ROWS))
    grains: dict[datetime, list[Profile]] = {}
    for row in log.profile_rows(ref.model, ref.number, reference.id, window):
        grains.setdefault(row.window.start, []).append(Profile.from_json(row.profile))
    starts = sorted(grains, reverse=True)
    every = max(1, len(starts) // _STARTS)
    after, best, found, later = Profile.empty(reference), 0.0, None, None
    for place, start in enumerate(starts, 1):
        after = after.merge(*grains[start])
        if place % every and place != len(starts):
            continue
        score = compare(reference, after, policy).input_drift_score
        if isinstance(score, Measured) and score.value * after.rows > best:
            best, found = score.value * after.rows, later or start
        later = start
    return found


def ood_onset(rows: Table, *, bound: float) -> datetime | None:
    """
    Estimate when the share of rows outside the reference began to rise, as the most likely single rise.

    The row k is chosen that maximises the log-likelihood ratio of "one share before k, a higher share from k on" to
    "the same share in all rows", for independent rows (Hinkley 1970).

    Args:
        rows: ``event_time`` (microseconds, ascending) and ``ood``, None where a row was not scored.
        bound: The share that the rows from k on must exceed to count as a rise.

    Returns:
        The event time of row k; None if the share never rises above *bound*.
    """
    if not len(rows):
        return None
    scored = np.array([flag is not None for flag in rows["ood"].tolist()], dtype=np.bool_)
    times, flags = rows["event_time"][scored], rows["ood"][scored].astype(float)
    count = len(flags)
    if count < 2:  # noqa: PLR2004 - one row rises above nothing
        return None
    before = np.arange(1, count)
    outside = np.cumsum(flags)[:-1]
    rest = flags.sum() - outside
    rises = (rest / (count - before) > outside / before) & (rest / (count - before) > bound)
    if not rises.any():
        return None
    gain = _log_likelihood(outside, before) + _log_likelihood(rest, count - before)
    return from_micros(int(times[1 + int(np.argmax(np.where(rises, gain, -np.inf)))]))


def _log_likelihood(hits: NDArray[np.float64], trials: NDArray[np.int64]) -> NDArray[np.float64]:
    share = np.clip(hits / trials, 1e-12, 1 - 1e-12)
    result: NDArray[np.float64] = hits * np.log(share) + (trials - hits) * np.log1p(-share)
    return result


def told_drift(report: DriftReport) -> str:
    """Format *report* for users, with the word drift once."""
    return str(report) if isinstance(report.drift_share, NotMeasured) else f"drift {report}"


def findings_of_drift(
    reports: Sequence[DriftReport],
    ref: VersionRef,
    policy: MonitoringPolicy,
    *,
    since: datetime | None,
    policy_hash: str,
    now: datetime,
) -> Findings:
    """Give a drift signal if enough consecutive windows show drift, and clear the signal if no window shows drift."""
    last = reports[-1]
    looked = (Finding(kind=SignalKind.DRIFT, text=told_drift(last), measured=isinstance(last.drift_share, Measured)),)
    if is_drift_confirmed(reports, policy):
        severity = Severity.MEDIUM if last.band is Band.CRITICAL else Severity.LOW
        share = last.drift_share.value if isinstance(last.drift_share, Measured) else None
        evidence = Evidence(
            policy_hash=policy_hash,
            digests=tuple(str(report.profile_digest) for report in reports),
            readings={
                "reference_id": str(last.reference_id),
                "window": str(last.window),
                "drift_share": share,
                "threshold": policy.drift_share,
                "drifted_features": list(last.drifted_features),
                "samples": last.rows,
                "since": None if since is None else since.isoformat(),
                "band": last.band.value,
            },
        )
        reasons = (f"Input drift confirmed: {last}",)
        found = Signal(
            kind=SignalKind.DRIFT,
            ref=ref,
            severity=severity,
            at=now,
            reasons=reasons,
            evidence=evidence,
            since=since,
        )
        return Findings(looked=looked, signals=(found,))
    measured = [report for report in reports if isinstance(report.drift_share, Measured)]
    calm = isinstance(last.drift_share, Measured) and not any(report.drift_detected for report in measured)
    return Findings(looked=looked, clear=(SignalKind.DRIFT,) if calm else ())


def quality_of(table: Table, policy: MonitoringPolicy) -> Quality | None:
    """
    Compute the quality of the labelled predictions that callers received (no shadow rows); None without such rows.

    The random generator is seeded: equal rows give equal intervals.
    """
    table = table.take(~table["shadow"].astype(bool)) if "shadow" in table else table
    if not len(table):
        return None
    outcomes = LabelledOutcomes.of(table, task=policy.task, positive=policy.positive_label)
    return evaluate_quality(outcomes, np.random.default_rng(0), min_rows=policy.min_rows)


def registered_quality(record: VersionRecord, policy: MonitoringPolicy) -> Quality | None:
    """The holdout quality registered with the version; None if it lacks the primary metric."""
    value = record.metrics.get(policy.metric)
    if value is None:
        return None
    known = Measured(value=value, samples=0)
    return Quality(task=policy.task, samples=0, classes=(), metrics={policy.metric: known}, confusion=())


def unknown_quality(policy: MonitoringPolicy) -> Quality:
    """Make a quality whose primary metric is not measured, because labels are missing."""
    return Quality(task=policy.task, samples=0, classes=(), metrics={policy.metric: _NO_LABELS}, confusion=())


def read_quality(
    table: Table, baseline: Quality | None, policy: MonitoringPolicy, *, floor: float | None
) -> QualityReading:
    """Compare the quality of *table* with the version's own baseline and the policy's floor."""
    unknown = unknown_quality(policy)
    return quality_signal(baseline or unknown, quality_of(table, policy) or unknown, policy, floor=floor)


def findings_of_quality(
    look: QualityLook, ref: VersionRef, *, moved: bool, policy_hash: str, now: datetime, window: Window
) -> Findings:
    """
    Give a quality signal if the whole confidence interval is worse than the bound.

    Args:
        moved: Whether the window's inputs have drifted; low quality is then not blamed on the version alone.
    """
    reading = look.reading
    text = f"quality {reading.reason}"
    measured = isinstance(reading.value, Measured)
    looked = (Finding(kind=SignalKind.QUALITY, text=text, measured=measured),)
    if not reading.crossed:
        return Findings(looked=looked, clear=(SignalKind.QUALITY,) if reading.crossed is False else ())
    value = reading.value if isinstance(reading.value, Measured) else None
    evidence = Evidence(
        policy_hash=policy_hash,
        readings={
            "metric": reading.metric,
            "value": None if value is None else value.value,
            "samples": None if value is None else value.samples,
            "threshold": reading.threshold,
            "window": str(window),
        },
    )
    found = Signal(
        kind=SignalKind.QUALITY,
        ref=ref,
        severity=Severity.MEDIUM,
        at=now,
        reasons=(f"Quality has fallen: {reading.reason}",),
        evidence=evidence,
        since=window.start,
        only_since_version=look.low_from_the_start and not moved,
    )
    return Findings(looked=looked, signals=(found,))
