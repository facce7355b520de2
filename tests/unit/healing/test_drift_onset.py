"""Since when the inputs differ from the reference, by grains of time."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from mendel.drift import MonitoringPolicy, Profile, Reference
from mendel.healing.drift_and_quality_checks import onset
from mendel.predictions import ProfileRow
from mendel.values import EPOCH, ModelName, Table, VersionRef, Window

GRAIN = timedelta(minutes=5)
REF = VersionRef(ModelName("credit"), 1)
CALM, SHIFTED = np.linspace(0.0, 1.0, 100), np.linspace(5.0, 6.0, 100)
REFERENCE = Reference.fit(Table({"age": CALM}))


class Recorded:
    """The profiles of grains that follow each other; the share of each that is shifted is given."""

    def __init__(self, shares: list[float]) -> None:
        self._shares = shares

    def profile_rows(self, model: ModelName, version: int, reference_id: str, _: Window) -> tuple[ProfileRow, ...]:
        return tuple(
            ProfileRow(
                model=model,
                version=version,
                reference_id=reference_id,
                window=Window(EPOCH + place * GRAIN, EPOCH + (place + 1) * GRAIN),
                profile=Profile.of(REFERENCE, _rows(share)).to_json(),
            )
            for place, share in enumerate(self._shares)
        )


def _rows(share: float) -> Table:
    place = round(share * len(CALM))
    return Table({"age": np.concatenate([CALM[place:], SHIFTED[:place]])})


@pytest.mark.parametrize(
    ("shares", "grains"),
    [([0, 0, 0.5, 1, 1, 1], 3), ([0, 0, 0.9, 1, 1, 1], 3), ([0, 0, 0, 1, 1, 1], 4), ([0, 0, 0, 0, 0, 1], 5)],
)
def test_rows_from_before_the_change_are_never_taken_for_new(shares: list[float], grains: int) -> None:
    """A change within a grain is dated to that grain's end; only the newest grain is not waited out."""
    window = Window(EPOCH, EPOCH + len(shares) * GRAIN)
    found = onset(Recorded(shares), REF, REFERENCE, window, MonitoringPolicy(every=GRAIN))  # type: ignore[arg-type]
    assert found == EPOCH + grains * GRAIN
