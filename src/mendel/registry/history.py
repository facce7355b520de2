"""History of production: periods, gate records, overrides and rollbacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mendel.durable import Receipt
from mendel.errors import InvalidValue
from mendel.values import Deployment, ModelName, VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's decision to promote without a passing gate report; recorded with the promotion."""

    reason: str
    by: str

    def __post_init__(self) -> None:
        if not self.reason.strip() or not self.by.strip():
            raise InvalidValue(
                "The override of the gates needs a reason and the name of a person.", remedy="Give both."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """
    A gate report as the registry stores it; promotion requires only that it passed.

    ``verdict`` is ``pass``, ``fail`` or ``undecided``; ``report_digest`` is the report's own; ``body`` is the report.
    """

    report_digest: str
    passed: bool
    verdict: str
    at: datetime
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionPeriod:
    """
    A period of a version in production, ``[start, end)``; ``end`` is None while it is in production.

    ``start_event`` and ``end_event`` are the ids of the ledger events that began and ended the period.
    """

    model: ModelName
    version: int
    start: datetime
    actor: str
    reason: str
    start_event: str
    end: datetime | None = None
    end_event: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """
    The result of a rollback.

    Attributes:
        receipt: The proof that the ledger contains the rollback; None in a dry run, or if no checkpoint could be signed
            at once.
        no_receipt: The reason why no checkpoint could be signed; empty otherwise.
    """

    from_version: VersionRef
    to_version: VersionRef
    deployment: Deployment
    receipt: Receipt | None = None
    no_receipt: str = ""


def in_production_at(tenures: Sequence[ProductionPeriod], moment: datetime) -> int | None:
    """Find the number of the version in production at *moment*; None if there was none."""
    return next(
        (t.version for t in tenures if t.start <= moment and (t.end is None or moment < t.end)),
        None,
    )


def former_versions(tenures: Sequence[ProductionPeriod], *, serving: int) -> tuple[int, ...]:
    """Give the versions that were in production, most recent first, each once, without the version *serving*."""
    return tuple(dict.fromkeys(t.version for t in reversed(tenures) if t.version != serving))
