from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from mendel.errors import InvalidPolicy
from mendel.gates import PROFILES, Bounds, GatePolicy, Profile, automatic_segments
from mendel.values import Table, from_mapping


def test_profiles() -> None:
    """The named profiles have the numbers of their documentation."""
    rows = {
        name: (b.samples, b.coverage, b.cooldown.days, b.improvement, b.calibration, b.intervals)
        for name, b in PROFILES.items()
    }
    assert rows == {
        Profile.DEFAULT: (200, 0.30, 7, 0.02, 0.01, True),
        Profile.CONSERVATIVE: (500, 0.50, 14, 0.05, 0.005, True),
        Profile.AGGRESSIVE: (100, 0.10, 1, 0.01, 0.05, True),
        Profile.CLASSIC: (200, 0.30, 7, 0.02, 0.01, False),
    }


def test_any_bound_per_model() -> None:
    """A model takes a profile and changes any number of it by the gate's name."""
    section = {"profile": "conservative", "cooldown": "10s", "improvement": 0.0, "segments": 0.1, "floor": 0.7}
    bounds = from_mapping(GatePolicy, section, at="gates").bounds
    assert bounds == Bounds(
        samples=500,
        coverage=0.50,
        cooldown=timedelta(seconds=10),
        improvement=0.0,
        calibration=0.005,
        segments=0.1,
        floor=0.7,
    )


@pytest.mark.parametrize(
    "section",
    [{"profile": "bold"}, {"sample": 5}, {"coverage": 1.5}, {"alpha": 0}, {"samples": 0}, {"cooldown": "soon"}],
    ids=lambda section: next(iter(section)),
)
def test_nonsense_is_refused(section: dict[str, object]) -> None:
    """An unknown profile or key, and a bound that cannot be, are refused."""
    with pytest.raises(InvalidPolicy):
        from_mapping(GatePolicy, section, at="gates")


def test_automatic_segments() -> None:
    """Numbers become terciles, categories their values, and missing values a segment; constants become none."""
    table = Table(
        {
            "age": np.array([*range(30), np.nan]),
            "city": np.array(["Ulm"] * 20 + ["Bonn"] * 10 + [None], dtype=object),
            "same": np.ones(31),
        }
    )
    sizes = {name: int(mask.sum()) for name, mask in automatic_segments(table).items()}
    assert sizes == {
        "age < 9.66667": 10,
        "9.66667 <= age < 19.3333": 10,
        "age >= 19.3333": 10,
        "age missing": 1,
        "city = Ulm": 20,
        "city = Bonn": 10,
        "city missing": 1,
    }


def test_configured_segments() -> None:
    """Configured cuts are taken instead, of the named features only, and features that are not there are left out."""
    table = Table({"age": np.arange(100.0), "income": np.arange(100.0)})
    masks = automatic_segments(table, {"age": (30, 60), "gone": (1,)})
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "age < 30": 30,
        "30 <= age < 60": 30,
        "age >= 60": 40,
    }
