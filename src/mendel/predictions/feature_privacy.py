"""Keep, hash or drop features before they enter the prediction log."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from hashlib import sha256
from typing import Any

import numpy as np

from mendel.predictions.entities import Column, PredictionBlock
from mendel.values import to_json


class FeaturePrivacy(StrEnum):
    """What the log stores of a feature: its value, a keyed hash of its value, or nothing."""

    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"


def apply_feature_privacy(block: PredictionBlock, uses: Mapping[str, FeaturePrivacy], key: bytes) -> PredictionBlock:
    """
    Remove the features to drop from a block, and replace the features to hash by their hashes.

    A hash is the HMAC-SHA256 (first 128 bits, hex) of the value's canonical JSON under the installation's key. Equal
    values have equal hashes within one installation, and without the key nobody can test guesses. A missing value
    stays missing.
    """
    asked = [uses.get(name, FeaturePrivacy.KEEP) for name in block.feature_names]
    if all(use is FeaturePrivacy.KEEP for use in asked):
        return block
    kept = [(place, use) for place, use in enumerate(asked) if use is not FeaturePrivacy.DROP]
    names = tuple(block.feature_names[place] for place, _ in kept)
    if isinstance(block.features, np.ndarray) and all(use is FeaturePrivacy.KEEP for _, use in kept):
        return replace(block, feature_names=names, features=block.features[:, [place for place, _ in kept]])
    columns = block.features.T if isinstance(block.features, np.ndarray) else block.features
    return replace(
        block,
        feature_names=names,
        features=tuple(_hashed(columns[at], key) if use is FeaturePrivacy.HASH else columns[at] for at, use in kept),
    )


def _hashed(column: Column, key: bytes) -> Column:
    hashed = np.empty(len(column), dtype=object)
    hashed[:] = [_hash(value, key) for value in column.tolist()]
    return hashed


def _hash(value: Any, key: bytes) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return None
    return hmac.new(key, to_json(value), sha256).hexdigest()[:32]
