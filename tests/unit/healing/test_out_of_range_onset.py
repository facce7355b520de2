"""Since when rows lie outside the reference."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.healing import Cause, Incident, IncidentContext, SignalKind
from mendel.healing.drift_and_quality_checks import ood_onset
from mendel.healing.incidents import since_after
from mendel.values import EPOCH, Severity, Table, VersionRef, from_micros


def _rows(flags: list[bool | None]) -> Table:
    micros = np.arange(len(flags), dtype=np.int64) * 1_000_000
    return Table({"event_time": micros, "ood": np.array(flags, dtype=object)})


@given(st.integers(20, 200), st.integers(20, 200), st.integers(0, 9), st.integers(0, 49))
def test_a_clear_rise_is_found_within_a_few_rows(before: int, after: int, gap: int, stray: int) -> None:
    """From one in fifty outside to nine in ten, the estimate lies within three rows of the truth."""
    flags = [place % 50 == stray for place in range(before)] + [place % 10 != gap for place in range(after)]
    found = ood_onset(_rows(flags), bound=0.2)
    assert found is not None
    assert abs((found - from_micros(before * 1_000_000)).total_seconds()) <= 3


@pytest.mark.parametrize("flags", [[], [None, None], [True], [False] * 50, [True] * 50, [True] * 9 + [False] * 9])
def test_where_the_share_never_rises_there_is_no_onset(flags: list[bool | None]) -> None:
    """No rows, no scores, a steady share or a falling one: nothing began."""
    assert ood_onset(_rows(flags), bound=0.2) is None


def test_rows_that_were_not_scored_are_passed_over() -> None:
    """A version without a reference scored nothing for a while; that is no change."""
    flags: list[bool | None] = [False] * 30 + [None] * 30 + [True] * 30
    assert ood_onset(_rows(flags), bound=0.2) == from_micros(60 * 1_000_000)


def test_a_rise_that_stays_within_the_bound_is_none() -> None:
    """From nothing to one in twenty is a rise, but none that would be signalled."""
    flags: list[bool | None] = [False] * 60 + [place % 20 == 0 for place in range(60)]
    assert ood_onset(_rows(flags), bound=0.2) is None


@pytest.mark.parametrize(
    ("known", "kinds", "said", "expected"),
    [
        (-5, [SignalKind.QUALITY], -9, -5),
        (-9, [SignalKind.QUALITY], -5, -5),
        (0, [SignalKind.QUALITY], -3, 0),
        (0, [SignalKind.DRIFT], -3, -3),
        (-5, [SignalKind.DRIFT], -9, -5),
        (-5, [SignalKind.OOD], 3, -5),
        (None, [SignalKind.DRIFT], -3, -3),
        (-5, [SignalKind.DRIFT], None, -5),
    ],
)
def test_the_latest_onset_holds_but_a_stopgap_yields_to_drift(
    known: int | None, kinds: list[SignalKind], said: int | None, expected: int
) -> None:
    """News may move the date later; a date that only says "not in the log yet" gives way to what drift saw."""
    opened = EPOCH + timedelta(days=1)

    def at(seconds: int | None) -> datetime | None:
        return None if seconds is None else opened + timedelta(seconds=seconds)

    incident = Incident(
        id="INC-1970-1",
        ref=VersionRef.parse("digits@1"),
        cause=Cause.OOD,
        severity=Severity.MEDIUM,
        title="",
        description="",
        context=IncidentContext(model_version="1", stage="production", reasons=(), policy_hash=""),
        opened_at=opened,
        last_seen=opened,
        kinds=(SignalKind.OOD,),
        since=at(known),
    )
    assert since_after(incident, kinds, at(said)) == at(expected)
