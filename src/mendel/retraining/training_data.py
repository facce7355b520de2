"""Select the rows of a run and divide them by time into training and evaluation rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.drift import MonitoringPolicy
from mendel.errors import InvalidInput, InvalidPolicy
from mendel.gates import GatePolicy
from mendel.registry import PolicyDocument, VersionRecord
from mendel.retraining.label_supply import LabelSupply, evaluation_start, labels_needed, usable
from mendel.retraining.policy import RetrainingPolicy
from mendel.retraining.ports import LabelledRows
from mendel.values import Signature, Table, Window, from_mapping, from_micros, to_micros

TRAINED_UNTIL = "trained_until"
"""The metadata key of a candidate for the event time (RFC 3339) before which all its training rows lie."""

_COUNTING = ("event_time", "shadow", "error", "simulated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The sections of a policy document that a run uses."""

    monitoring: MonitoringPolicy
    gates: GatePolicy
    retraining: RetrainingPolicy
    hash: str

    @classmethod
    def of(cls, document: PolicyDocument) -> Policies:
        """
        Read the sections of *document*.

        Raises:
            InvalidPolicy: A section has an unknown key or an invalid value.
        """
        return cls(
            monitoring=from_mapping(MonitoringPolicy, document.section("monitoring"), at="monitoring"),
            gates=from_mapping(GatePolicy, document.section("gates"), at="gates"),
            retraining=from_mapping(RetrainingPolicy, document.section("retraining"), at="retraining"),
            hash=document.hash,
        )

    @property
    def target(self) -> str:
        """The column that the training function learns to predict."""
        if self.monitoring.target is None:
            raise InvalidPolicy(
                "monitoring.target is not set.",
                remedy="Set monitoring.target to the label column of the training rows.",
            )
        return self.monitoring.target


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecentRows:
    """
    Labelled rows since the production version's training, oldest first.

    The last ``fresh`` rows are not older than the change that caused the run. ``answered`` are the event times of all
    predictions since then, labelled or not.
    """

    labelled: Table
    fresh: int
    answered: NDArray[np.int64]

    def supply(self, policies: Policies) -> LabelSupply:
        """Give the number and share of labelled rows, and what the policies need."""
        return LabelSupply(
            have=self.fresh,
            need=labels_needed(policies.retraining, policies.gates.bounds),
            coverage=self.fresh / len(self.answered) if len(self.answered) else 0.0,
            need_coverage=policies.retraining.min_coverage,
            cooldown=policies.gates.bounds.cooldown,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Division:
    """
    The rows of a run, each with the features and the target.

    Attributes:
        recent: Labelled rows for training, all older than those of *evaluation*.
        evaluation: Labelled rows for the gates, never used for training.
        expected: The rows for the candidate's drift reference: those since the change that caused the run, or the
            evaluation rows if its time is unknown. The labels of these rows are not used.
        cut: The event time of the first row of *evaluation*.
        answered: The number of predictions since the cut, labelled or not.
    """

    recent: Table
    evaluation: Table
    expected: Table
    cut: datetime
    answered: int


def recent_rows(
    log: LabelledRows, production: VersionRecord, policy: RetrainingPolicy, *, now: datetime, since: datetime | None
) -> RecentRows:
    """Read the rows for a run at *now*; *since* is when the change that caused the run began, or None if unknown."""
    start = max(now - policy.window, _trained_until(production) or now - policy.window)
    window = Window(min(start, now), now)
    labelled = usable(log.labelled(production.model, window), include_simulated=policy.include_simulated)
    counted = log.predictions(production.model, window, columns=_COUNTING)
    answered = usable(counted, include_simulated=policy.include_simulated)
    begin = to_micros(max(start, since) if since is not None else start)
    times = answered["event_time"] if len(answered) else np.zeros(0, dtype=np.int64)
    fresh = int((labelled["event_time"] >= begin).sum()) if len(labelled) else 0
    return RecentRows(labelled=labelled, fresh=fresh, answered=times[times >= begin])


def divide(rows: RecentRows, policies: Policies, signature: Signature, *, since: datetime | None) -> Division:
    """
    Divide the labelled rows by time; at least one row is required.

    Raises:
        InvalidInput: A feature of the version is missing in the prediction log.
    """
    fresh = rows.labelled.take(np.arange(len(rows.labelled) - rows.fresh, len(rows.labelled)))
    first = evaluation_start(fresh["event_time"], policies.retraining.evaluation_share)
    place = len(rows.labelled) - rows.fresh + first
    cut = int(fresh["event_time"][first])
    table = _as_training_rows(rows.labelled, signature, policies.target)
    evaluation = table.take(np.arange(place, len(table)))
    return Division(
        recent=table.take(np.arange(place)),
        evaluation=evaluation,
        expected=evaluation if since is None else table.take(np.arange(len(table) - rows.fresh, len(table))),
        cut=from_micros(cut),
        answered=int((rows.answered >= cut).sum()),
    )


def training_rows(base: Table | None, recent: Table) -> Table:
    """
    Join the base rows, if any, and the recent rows into the training rows.

    Raises:
        InvalidInput: A column is missing in the base rows.
    """
    if base is None:
        return recent
    if missing := [name for name in recent.names if name not in base]:
        raise InvalidInput(
            f"The training rows stored with the version lack the columns {', '.join(missing)}.",
            remedy="Register a version whose training rows have every feature.",
        )
    return Table.concat([base.select(recent.names), recent])


def schema_violations(rows: Table, signature: Signature) -> tuple[str, ...]:
    """Give the violations of the version's signature in *rows*, one sentence per column."""
    return tuple(sentence for column in signature.inputs if (sentence := _violation(rows, column.name, column)))


def _violation(rows: Table, name: str, column: Any) -> str | None:
    if name not in rows:
        return f"{name} is missing"
    values = rows[name]
    if column.type.numeric and values.dtype.kind not in "fiub":
        wrong = sum(value is not None and not isinstance(value, int | float) for value in values.tolist())
        if wrong:
            return f"{name}: {wrong} values are not numbers"
    absent = np.isnan(values) if values.dtype.kind == "f" else np.array([value is None for value in values.tolist()])
    return f"{name}: {int(absent.sum())} values are missing" if column.required and absent.any() else None


def _as_training_rows(rows: Table, signature: Signature, target: str) -> Table:
    if target in signature.names:
        raise InvalidInput(f"{target!r} is both the target (monitoring.target) and a feature of the version.")
    if missing := [name for name in signature.names if f"feature.{name}" not in rows]:
        remedy = (
            "Set spool.features to keep these features, or set retraining.load to a function that returns the rows."
        )
        raise InvalidInput(f"The prediction log does not contain the features {', '.join(missing)}.", remedy=remedy)
    features = {name: rows[f"feature.{name}"] for name in signature.names}
    return Table({**features, target: rows["label"]})


def _trained_until(production: VersionRecord) -> datetime | None:
    told = production.metadata.get(TRAINED_UNTIL)
    return datetime.fromisoformat(told) if isinstance(told, str) else None
