"""A classifier that needs numpy alone, so that no process that loads it imports scikit-learn, which takes 1.5 s."""

from __future__ import annotations

from typing import Any

import numpy as np


class Threshold:
    """
    Says whether the first of its features is above a bound.

    Args:
        names: The features, in their order; None where rows are arrays without names.
        steepness: Of the logistic curve that gives the probabilities.
    """

    def __init__(self, names: tuple[str, ...] | None = None, steepness: float = 1.0) -> None:
        self.names = names
        self.steepness = steepness

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"names": self.names, "steepness": self.steepness}

    def fit(self, rows: Any, labels: Any) -> Threshold:
        """The bound is midway between the classes' means."""
        if self.names is not None:
            self.feature_names_in_ = np.array(self.names)
        self.classes_ = np.unique(labels)
        self.bound_ = np.mean([rows[labels == one, 0].mean() for one in self.classes_])
        return self

    def predict(self, rows: Any) -> Any:
        return self.classes_[(self._first(rows) > self.bound_).astype(int)]

    def predict_proba(self, rows: Any) -> Any:
        over = 1 / (1 + np.exp(self.steepness * (self.bound_ - self._first(rows))))
        return np.column_stack([1 - over, over])

    @staticmethod
    def _first(rows: Any) -> Any:
        return np.asarray(rows, dtype=float)[:, 0]


class Brittle(Threshold):
    """A threshold that fails on every row whose second feature is above a limit, as a value that upstream broke."""

    def __init__(self, names: tuple[str, ...] | None = None, steepness: float = 1.0, limit: float = 1e9) -> None:
        super().__init__(names, steepness)
        self.limit = limit

    def predict(self, rows: Any) -> Any:
        if (np.asarray(rows, dtype=float)[:, 1] > self.limit).any():
            raise ValueError("a value above the limit")
        return super().predict(rows)

    def predict_proba(self, rows: Any) -> Any:
        self.predict(rows)
        return super().predict_proba(rows)
