"""Divide evaluation rows into segments, none of which may lose quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mendel.drift import FeatureType, as_numbers, category_name, count_categories, infer_type
from mendel.values import Table

_TERCILES = (1 / 3, 2 / 3)
_MOST_FEATURES, _MOST_CATEGORIES = 20, 10


def automatic_segments(
    features: Table, cuts: Mapping[str, Sequence[float]] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """
    Divide the rows into segments, one feature at a time.

    Args:
        features: The rows.
        cuts: The cut points of numeric features by name; an empty list for a category. None divides the first 20
            features: numbers into terciles, categories into their 10 most frequent values.

    Returns:
        Masks by segment name; missing values are a segment of their own.

    >>> rows = Table({"age": np.array([20.0, 40.0, 70.0])})
    >>> {name: mask.tolist() for name, mask in automatic_segments(rows, {"age": [30]}).items()}
    {'age < 30': [True, False, False], 'age >= 30': [False, True, True]}
    """
    wanted = dict.fromkeys(features.names[:_MOST_FEATURES], ()) if cuts is None else dict(cuts)
    found: dict[str, NDArray[np.bool_]] = {}
    for name, at in wanted.items():
        if name not in features:
            continue
        if at or infer_type(features[name]) is FeatureType.NUMBER:
            found.update(_number_segments(name, features, at))
        else:
            found.update(_category_segments(name, features))
    return {name: mask for name, mask in found.items() if mask.any() and not mask.all()}


def _number_segments(name: str, features: Table, at: Sequence[float]) -> dict[str, NDArray[np.bool_]]:
    numbers = as_numbers(name, features[name])
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        return {}
    edges = sorted({float(cut) for cut in (at or np.quantile(present, _TERCILES))})
    found = {f"{name} < {edges[0]:g}": numbers < edges[0]}
    for low, high in pairwise(edges):
        found[f"{low:g} <= {name} < {high:g}"] = (numbers >= low) & (numbers < high)
    found[f"{name} >= {edges[-1]:g}"] = numbers >= edges[-1]
    return {**found, f"{name} missing": np.isnan(numbers)}


def _category_segments(name: str, features: Table) -> dict[str, NDArray[np.bool_]]:
    counts = count_categories(features[name])
    null = counts.pop(None, 0)
    keys = np.array([category_name(value) or "" for value in features[name].tolist()], dtype=object)
    found: dict[str, NDArray[np.bool_]] = {
        f"{name} = {key}": keys == key for key, _ in counts.most_common(_MOST_CATEGORIES)
    }
    if null:
        found[f"{name} missing"] = np.array([category_name(value) is None for value in features[name].tolist()])
    return found
