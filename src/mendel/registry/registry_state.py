"""The state of the registry, folded from the events of the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, Self

from mendel.durable import LedgerEntry
from mendel.registry.history import ProductionPeriod
from mendel.registry.policies import PolicyDocument
from mendel.registry.version_records import Governance, VersionRecord
from mendel.values import Deployment, Digest, ModelName, Stage, VersionRef, VersionUuid, from_builtins, to_json

ROWS = "state"
"""The key in an event's data under which the event carries the rows that its transaction wrote."""
WHOLE_STATE = "registry.state"
"""The type of events that carry every row of the registry, and from which a fold can begin."""
FIRST_EVENTS = ("model.registered", "policy.set")
"""The types of events one of which is the first of every registry; both are alone in their transactions."""
ROW_EVENTS = (
    WHOLE_STATE,
    *FIRST_EVENTS,
    "deployment.changed",
    "model.approved",
    "model.difference_accepted",
    "model.difference_served",
    "model.image_recorded",
    "model.parity_checked",
    "model.parity_probed",
    "model.parity_waived",
    "model.promoted",
    "model.rollback",
    "model.stage_changed",
)
"""The types of events that may carry rows; a fold reads no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionState:
    """
    What the ledger records of a version's row.

    Attributes:
        record_digest: The SHA-256 (hex) of the whole record. Values of probe rows, which the record may contain, never
            enter the ledger.
    """

    ref: VersionRef
    uuid: VersionUuid
    stage: Stage
    artifact_digest: Digest
    registered_at: datetime
    registered_by: str
    governance: Governance = field(default_factory=Governance)
    release_tag: str | None = None
    image_digest: Digest | None = None
    record_digest: str

    @classmethod
    def of(cls, record: VersionRecord) -> Self:
        """Give the state of *record*."""
        return cls(
            ref=record.ref,
            uuid=record.uuid,
            stage=record.stage,
            artifact_digest=record.artifact_digest,
            registered_at=record.registered_at,
            registered_by=record.registered_by,
            governance=record.governance,
            release_tag=record.release_tag,
            image_digest=None if record.image is None else record.image.digest,
            record_digest=record_digest(record),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedPeriod:
    """A production period, and its place among the periods of its model, from 1."""

    number: int
    period: ProductionPeriod


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRows:
    """Rows of the registry as an event carries them."""

    versions: tuple[VersionState, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    policies: tuple[PolicyDocument, ...] = ()
    periods: tuple[NumberedPeriod, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryState:
    """The rows of the registry at one moment, by their keys; a period's key is its model and number."""

    versions: dict[VersionRef, VersionState] = field(default_factory=dict)
    deployments: dict[ModelName, Deployment] = field(default_factory=dict)
    policies: dict[tuple[ModelName, int], PolicyDocument] = field(default_factory=dict)
    periods: dict[tuple[ModelName, int], ProductionPeriod] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: RegistryRows) -> Self:
        """Give the state that consists of *rows*."""
        state = cls()
        state.put(rows)
        return state

    @property
    def rows(self) -> RegistryRows:
        """All rows, sorted by their keys."""
        return RegistryRows(
            versions=tuple(self.versions[key] for key in sorted(self.versions)),
            deployments=tuple(self.deployments[key] for key in sorted(self.deployments)),
            policies=tuple(self.policies[key] for key in sorted(self.policies)),
            periods=tuple(NumberedPeriod(number=key[1], period=self.periods[key]) for key in sorted(self.periods)),
        )

    @property
    def models(self) -> tuple[ModelName, ...]:
        """Every model with a row, by name."""
        named = {*self.deployments, *(ref.model for ref in self.versions)}
        named |= {model for model, _ in (*self.policies, *self.periods)}
        return tuple(sorted(named))

    def of_model(self, model: ModelName) -> RegistryState:
        """Give the rows of *model* alone."""
        return RegistryState(
            versions={ref: one for ref, one in self.versions.items() if ref.model == model},
            deployments={name: one for name, one in self.deployments.items() if name == model},
            policies={key: one for key, one in self.policies.items() if key[0] == model},
            periods={key: one for key, one in self.periods.items() if key[0] == model},
        )

    def policy(self, model: ModelName) -> PolicyDocument:
        """Give the newest policy of *model*, or the default policy."""
        newest = max((number for name, number in self.policies if name == model), default=None)
        return PolicyDocument(model=model) if newest is None else self.policies[model, newest]

    def put(self, rows: RegistryRows) -> None:
        """Add *rows*, replacing rows with the same keys; only whoever builds the state calls this."""
        self.versions.update({one.ref: one for one in rows.versions})
        self.deployments.update({one.model: one for one in rows.deployments})
        self.policies.update({(one.model, one.version): one for one in rows.policies})
        self.periods.update({(one.period.model, one.number): one.period for one in rows.periods})


def fold(entries: Iterable[LedgerEntry], *, model: ModelName | None = None) -> RegistryState | None:
    """
    Rebuild the registry's state after the last of *entries*.

    Args:
        entries: Entries of the types in ``ROW_EVENTS`` in ascending order, from the ledger's first entry on or from an
            entry with the whole state on.
        model: Give the rows of this model alone; *entries* may then lack the entries of other models.

    Returns:
        The state; None if the entries do not tell it: a former Mendel wrote them, and no entry with the whole state
        follows.
    """
    state: RegistryState | None = RegistryState()
    for entry in entries:
        carried = entry.event.data.get(ROWS)
        if entry.event.type == WHOLE_STATE:
            state = RegistryState()
        elif carried is None and entry.event.type in FIRST_EVENTS:
            state = None
        if state is not None and carried is not None:
            state.put(from_builtins(carried, RegistryRows))
    return state if state is None or model is None else state.of_model(model)


def record_digest(record: VersionRecord) -> str:
    """
    Hash *record*: SHA-256 (hex) of its canonical JSON without fields that have their default value.

    So the digest stays the same when a later Mendel adds fields to records.
    """
    return hashlib.sha256(to_json(_stated(record))).hexdigest()


def _stated(value: object) -> Any:
    match value:
        case None | str() | int() | float():
            return value
        case dict():
            return {str(key): _stated(one) for key, one in value.items()}
        case list() | tuple():
            return [_stated(one) for one in value]
    if not is_dataclass(value):
        return value
    kind: Any = type(value)
    held = ((name, getattr(value, name), default) for name, default in _defaults(kind))
    return {name: _stated(one) for name, one, default in held if one != default}


@cache
def _defaults(kind: type[Any]) -> tuple[tuple[str, object], ...]:
    """Give the names and the default values of a dataclass's fields; a field without a default has ``MISSING``."""
    return tuple(
        (one.name, one.default if one.default_factory is MISSING else one.default_factory()) for one in fields(kind)
    )
