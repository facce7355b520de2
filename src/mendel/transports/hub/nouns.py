"""What clients say to the hub, where no room has a noun for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mendel.durable import LedgerEntry
from mendel.values import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """Set governance flags; false leaves a flag as it is."""

    policy: bool = False
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeStage:
    """Move a version."""

    to: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Put a version into production; ``override`` is why it goes there without a passing gate report."""

    reason: str = ""
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Give a version a share of the traffic, a fraction in (0, 1)."""

    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """Return to a former version: the newest, a number, or the one of a time; ``dry_run`` only says which."""

    reason: str
    to: int | None = None
    to_time: datetime | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequest:
    """Switch healing off or on, for one model or (None) for all."""

    model: ModelName | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """Make a key."""

    scopes: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key's secret, shown once."""

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Entries of the ledger; ``next`` is the sequence to ask after, None at the end."""

    entries: tuple[LedgerEntry, ...]
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerProof:
    """
    The chain holds from entry ``first`` to ``last``.

    Attributes:
        anchored: Up to here a signed head outside the database vouches for it; beyond, it is merely consistent.
        anchors: How many signed heads were checked.
    """

    first: int
    last: int
    head_hash: str
    anchored: int
    anchors: int
