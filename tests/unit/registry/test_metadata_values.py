"""Metadata as JSON can hold it."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest

from mendel.errors import InvalidInput
from mendel.registry.metadata_values import plain_metadata
from mendel.values import read_json, to_json


class Size(enum.IntEnum):
    """A value that is a number, too."""

    BIG = 3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (date(2024, 1, 2), "2024-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(seconds=90), "0:01:30"),
        (pd.Timestamp("2024-01-02"), "2024-01-02T00:00:00"),
        (pd.NaT, None),
        (pd.NA, None),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.arange(3), [0, 1, 2]),
        (float("nan"), None),
        (Path("rows.csv"), "rows.csv"),
        (PurePosixPath("/a/b"), "/a/b"),
        (Decimal("1.10"), "1.10"),
        (Size.BIG, 3),
        ({"b", "a"}, ["a", "b"]),
        ((1, [2, {"c": date(2024, 1, 2)}]), [1, [2, {"c": "2024-01-02"}]]),
        ({1: "one"}, {"1": "one"}),
        (None, None),
    ],
)
def test_what_makers_have_becomes_json(given, kept):
    """Every usual value has one form in JSON, and reads back as that form."""
    plain = plain_metadata({"key": given})
    assert plain == {"key": kept}
    assert read_json(to_json(plain)) == plain


def test_what_json_cannot_hold_is_refused_by_its_place():
    """The message names the key of the value, however deep."""
    with pytest.raises(InvalidInput, match=r"metadata\.rows\[1\]\.file is a builtins\.object"):
        plain_metadata({"rows": [1, {"file": object()}]})
