"""Diagnose the causes of signals, by a table and pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mendel.healing.entities import Cause, Signal, SignalKind
from mendel.values import Severity

_PLAIN = {
    SignalKind.FAULTS: Cause.FAULTS,
    SignalKind.LATENCY: Cause.LATENCY,
    SignalKind.OOD: Cause.OOD,
    SignalKind.DRIFT: Cause.DRIFT,
    SignalKind.DRIFT_SCORE: Cause.DRIFT,
    SignalKind.NOT_CONVERGING: Cause.NOT_CONVERGING,
    SignalKind.UNAVAILABLE: Cause.SERVERS,
}
_MOVED = frozenset({SignalKind.DRIFT, SignalKind.DRIFT_SCORE, SignalKind.OOD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """
    Facts about a version that, together with the signal, decide the cause.

    Attributes:
        newly_promoted: The version has been in production for less than the bake window.
        former: Another version served before this one.
        drifting: The version has an open incident of drift or OOD.
        canary: The version is the canary.
    """

    newly_promoted: bool
    former: bool
    drifting: bool = False
    canary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A cause and the signals of one version that it explains; ``signals`` worst first."""

    cause: Cause
    severity: Severity
    signals: tuple[Signal, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of all signals, without repetitions."""
        return tuple(dict.fromkeys(reason for signal in self.signals for reason in signal.reasons))

    @property
    def since(self) -> datetime | None:
        """When the change behind the signals began."""
        return began(self.signals)

    @property
    def server(self) -> str | None:
        """The server that the signals are about, if they are about one."""
        return next((signal.server for signal in self.signals if signal.server is not None), None)

    @property
    def kinds(self) -> tuple[SignalKind, ...]:
        """The kinds of the signals."""
        return tuple(dict.fromkeys(signal.kind for signal in self.signals))


def began(signals: Sequence[Signal]) -> datetime | None:
    """
    Give when the change behind *signals* began; drift signals take precedence, because every row has inputs, but few
    have labels.
    """
    known = sorted(signals, key=lambda signal: signal.kind is not SignalKind.DRIFT)
    return next((signal.since for signal in known if signal.since is not None), None)


def cause_of(signal: Signal, circumstances: Circumstances) -> Cause:
    """
    Find the cause that *signal* indicates.

    Low quality is a regression only for a newly promoted version that was bad from its first labelled rows on, while
    its inputs did not drift. A failure to load is the version's fault while the version is new, or the canary, and has
    served nowhere, or if its calls ended workers; else servers could load the version before, so the servers are at
    fault.
    """
    if signal.kind is SignalKind.QUALITY:
        only_here = signal.only_since_version and circumstances.newly_promoted and circumstances.former
        return Cause.REGRESSION if only_here and not circumstances.drifting else Cause.QUALITY
    if signal.kind is SignalKind.LOAD_FAILURE:
        if signal.served_before:
            return Cause.SERVERS
        if circumstances.canary:
            return Cause.CANARY_LOAD_FAILURE
        return Cause.LOAD_FAILURE if circumstances.newly_promoted else Cause.SERVERS
    return _PLAIN[signal.kind]


def diagnose(signals: Sequence[Signal], circumstances: Circumstances) -> tuple[Diagnosis, ...]:
    """
    Group the signals of one version into one diagnosis for each family of causes, and for each server and kind of
    signal about it: a server that falls silent is another question than its slow start.

    A diagnosis is named after its first cause in the order of :class:`Cause`. If the inputs drift too, low quality is
    not blamed on the version.
    """
    moved = any(signal.kind in _MOVED for signal in signals)
    known = replace(circumstances, drifting=circumstances.drifting or moved)
    groups: dict[tuple[str, ...], list[tuple[Cause, Signal]]] = {}
    for signal in signals:
        cause = cause_of(signal, known)
        about = (cause.family,) if signal.server is None else (cause.family, signal.server, signal.kind.value)
        groups.setdefault(about, []).append((cause, signal))
    return tuple(_diagnosis(found) for _, found in sorted(groups.items()))


def _diagnosis(found: Sequence[tuple[Cause, Signal]]) -> Diagnosis:
    ranked = sorted(found, key=lambda one: (-one[1].severity.rank, one[0].rank))
    return Diagnosis(
        cause=min((cause for cause, _ in found), key=lambda cause: cause.rank),
        severity=ranked[0][1].severity,
        signals=tuple(signal for _, signal in ranked),
    )
