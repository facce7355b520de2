"""Take the class of the highest probability as the prediction, where that is what the model itself does."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MARGIN: Final = 1e-6
"""Rows whose two best probabilities differ by less are left to the model: rounding may decide there."""
_LEAST_ROWS: Final = 8
_PIPELINE: Final = "sklearn.pipeline.Pipeline"
_KNOWN: Final = frozenset(
    {
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble._gb.GradientBoostingClassifier",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._logistic.LogisticRegressionCV",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
        "sklearn.tree._classes.DecisionTreeClassifier",
    }
)
"""The estimators of scikit-learn whose ``predict`` gives a class of the highest probability."""


class DecidedClasses:
    """
    Derives the predictions of a classifier from its probabilities, so that the model is called once and not twice.

    It does so only after :meth:`accept`, for estimators of scikit-learn that are known to predict a class of the
    highest probability, and only if both methods agreed on all rows that were compared before.

    Args:
        classes: The classes in the order of the probabilities.
    """

    def __init__(self, classes: NDArray[Any]) -> None:
        self._classes = classes
        self._compared = 0
        self._refuted = False
        self.accepted = False

    @classmethod
    def of(cls, model: Any) -> DecidedClasses | None:
        """Give the derivation for *model*; None if its predictions may differ from its most probable classes."""
        final = model
        while _name(final) == _PIPELINE and final.steps and not _is_patched(final):
            final = final.steps[-1][1]
        classes = getattr(final, "classes_", None)
        if _name(final) not in _KNOWN or _is_patched(final) or not isinstance(classes, np.ndarray) or classes.ndim != 1:
            return None
        return cls(classes)

    def compare(self, returned: Any, probabilities: Any) -> None:
        """Compare what ``predict`` and ``predict_proba`` *returned* for the same rows."""
        if not self._has_decisions(probabilities):
            return
        decided, clear = self._most_probable(probabilities), self._clear(probabilities)
        alike = isinstance(returned, np.ndarray) and (returned.shape, returned.dtype) == (decided.shape, decided.dtype)
        if not alike or (returned[clear] != decided[clear]).any():
            self._refuted = True
        self._compared += int(clear.sum())

    def accept(self) -> bool:
        """Derive predictions from now on, if enough rows were compared and all agreed; gives whether that is so."""
        self.accepted = self._compared >= _LEAST_ROWS and not self._refuted
        return self.accepted

    def decide(self, probabilities: Any) -> NDArray[Any] | None:
        """Give the most probable class of each row; None if the model itself must predict these rows."""
        if not self._has_decisions(probabilities) or not self._clear(probabilities).all():
            return None
        return self._most_probable(probabilities)

    def _has_decisions(self, probabilities: Any) -> bool:
        """Tell whether *probabilities* is one array with a column per class, of at least two classes."""
        rows_by_classes, least = 2, 2
        return (
            isinstance(probabilities, np.ndarray)
            and probabilities.ndim == rows_by_classes
            and probabilities.shape[1] == len(self._classes) >= least
        )

    def _most_probable(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        decided: NDArray[Any] = self._classes.take(probabilities.argmax(axis=1))
        return decided

    def _clear(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """Mark the rows whose best class is clearly more probable than every other; NaN is not clear."""
        if len(self._classes) == 2:  # noqa: PLR2004 - much faster than sorting
            margins = np.abs(probabilities[:, 1] - probabilities[:, 0])
        else:
            best = np.partition(probabilities, -2, axis=1)
            margins = best[:, -1] - best[:, -2]
        clear: NDArray[np.bool_] = margins > _MARGIN
        return clear


def _name(model: Any) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _is_patched(model: Any) -> bool:
    """Tell whether one object got methods of its own."""
    return not {"predict", "predict_proba"}.isdisjoint(vars(model))
