"""The decision trees inside a fitted scikit-learn ensemble, and how the ensemble sums them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mendel.errors import Unsupported
from mendel.serving.flavours.native_models import is_of

_MEANS: Final = ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
_ENDINGS: Final = ("Classifier", "Regressor")
_IDENTITY_LOSSES: Final = frozenset({"squared_error", "absolute_error", "huber", "quantile"})


class Link(StrEnum):
    """The function that converts the sum of the trees to the answer."""

    MEAN = "mean"
    SUM = "sum"
    LOGISTIC = "logistic"
    SOFTMAX = "softmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """
    One binary tree; every array has an entry per node, node 0 is the root.

    Attributes:
        left: The child for values up to the threshold; without meaning for a leaf.
        missing_left: Whether a missing value goes to the left child.
        values: The values of the nodes, of shape (nodes, outputs).
        output: The output to which a tree with one value per leaf is added.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf: NDArray[np.bool_]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    values: NDArray[np.float64]
    output: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEnsemble:
    """
    The trees of a model.

    Attributes:
        single_precision: True if the model rounds its input to ``float32`` before it compares.
        start: The number that is added to the sum of the trees, for each output.
        classes: None for a regressor.
    """

    trees: tuple[Tree, ...]
    link: Link
    single_precision: bool
    start: NDArray[np.float64]
    classes: NDArray[Any] | None


def is_tree_ensemble(model: Any) -> bool:
    """Tell whether :func:`tree_ensemble` knows the type of *model*."""
    kinds = (*_MEANS, "GradientBoosting", "HistGradientBoosting")
    return is_of(model, "sklearn", *(kind + ending for kind in kinds for ending in _ENDINGS))


def tree_ensemble(model: Any) -> TreeEnsemble:
    """
    Give the trees of *model*.

    Raises:
        Unsupported: The ensemble has several outputs, splits on categories, or has an unusual loss or start.
    """
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list) or getattr(model, "n_outputs_", 1) != 1:
        raise Unsupported(f"{type(model).__name__} with several outputs cannot be converted")
    name = type(model).__name__
    if name.startswith("HistGradientBoosting"):
        return _histogram_boosting(model, classes)
    if name.startswith("GradientBoosting"):
        return _gradient_boosting(model, classes)
    parts = getattr(model, "estimators_", [model])
    trees = tuple(_of_tree(part.tree_, part.tree_.value[:, 0, :]) for part in parts)
    return TreeEnsemble(
        trees=trees,
        link=Link.MEAN,
        single_precision=True,
        start=np.zeros(trees[0].values.shape[1]),
        classes=classes,
    )


def _gradient_boosting(model: Any, classes: NDArray[Any] | None) -> TreeEnsemble:
    if not (model.init_ == "zero" or type(model.init_).__name__.startswith("Dummy")):
        raise Unsupported("a boosting model that starts from another model cannot be converted")
    stages = model.estimators_
    start = np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_))), dtype=np.float64)  # noqa: SLF001 - there is no public name
    return TreeEnsemble(
        trees=tuple(
            _of_tree(part.tree_, part.tree_.value[:, 0, :] * model.learning_rate, output=output)
            for stage in stages
            for output, part in enumerate(stage)
        ),
        link=_link_of(model.loss, classes, stages.shape[1]),
        single_precision=True,
        start=start.ravel(),
        classes=classes,
    )


def _histogram_boosting(model: Any, classes: NDArray[Any] | None) -> TreeEnsemble:
    if getattr(model, "_preprocessor", None) is not None:
        raise Unsupported("a boosting model with categorical features cannot be converted")
    stages = model._predictors  # noqa: SLF001 - scikit-learn has no public name for its trees
    trees = tuple(_of_nodes(part.nodes, output) for stage in stages for output, part in enumerate(stage))
    return TreeEnsemble(
        trees=trees,
        link=_link_of(model.loss, classes, len(stages[0])),
        single_precision=False,
        start=np.asarray(model._baseline_prediction, dtype=np.float64).ravel(),  # noqa: SLF001 - as above
        classes=classes,
    )


def _link_of(loss: str, classes: NDArray[Any] | None, outputs: int) -> Link:
    if classes is None and loss in _IDENTITY_LOSSES:
        return Link.SUM
    if classes is not None and loss == "log_loss":
        return Link.LOGISTIC if outputs == 1 else Link.SOFTMAX
    raise Unsupported(f"a model with the loss {loss!r} cannot be converted")


def _of_tree(tree: Any, values: NDArray[np.float64], *, output: int = 0) -> Tree:
    return Tree(
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        leaf=tree.children_left < 0,
        feature=tree.feature.astype(np.int64),
        threshold=tree.threshold.astype(np.float64),
        missing_left=tree.missing_go_to_left.astype(bool),
        values=np.asarray(values, dtype=np.float64),
        output=output,
    )


def _of_nodes(nodes: Any, output: int) -> Tree:
    return Tree(
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        leaf=nodes["is_leaf"].astype(bool),
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        values=nodes["value"].astype(np.float64).reshape(-1, 1),
        output=output,
    )
