"""
Write the trees of an ensemble as nodes that compare and sum in double precision.

The operators for trees before ``ai.onnx.ml`` 5, which converters such as skl2onnx write, sum in single precision:
https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mendel.errors import Unsupported
from mendel.serving.acceleration.fitted_trees import Link, Tree, TreeEnsemble
from mendel.serving.acceleration.graph_writer import GraphWriter

MOST_NODES: Final = 1_000_000
"""The largest number of nodes; the conversion needs about 300 bytes of memory per node."""

MOST_VALUES: Final = 20_000_000
"""The largest number of nodes times classes; the graph holds 8 bytes for each."""


def tree_answer(graph: GraphWriter, ensemble: TreeEnsemble, given: str) -> str:
    """
    Write the trees over the tensor *given*, and give the tensor of their answers, of shape (rows, outputs).

    The answers of a classifier are its probabilities.

    Raises:
        Unsupported: The ensemble is too large.
    """
    count = sum(len(tree.left) for tree in ensemble.trees)
    if count > MOST_NODES:
        raise Unsupported(f"its trees have {count} nodes, but only {MOST_NODES} nodes can be converted")
    values = count * ensemble.trees[0].values.shape[1]
    if values > MOST_VALUES:
        raise Unsupported(f"its trees have {values} values, but only {MOST_VALUES} values can be converted")
    if ensemble.single_precision:
        given = graph.cast(graph.cast(given, "FLOAT"), "DOUBLE")
    total = _sum_of_trees(graph, ensemble, given)
    if ensemble.link is Link.MEAN:
        return graph.add("Div", total, graph.constant(float(len(ensemble.trees))))
    total = graph.add("Add", total, graph.constant(ensemble.start))
    match ensemble.link:
        case Link.LOGISTIC:
            return two_shares(graph, total)
        case Link.SOFTMAX:
            return graph.add("Softmax", total, axis=1)
        case _:
            return total


def two_shares(graph: GraphWriter, total: str) -> str:
    """Give the probabilities of both classes from *total*, the log odds of the second class."""
    share = graph.add("Sigmoid", total)
    return graph.add("Concat", graph.add("Sub", graph.constant(1.0), share), share, axis=1)


def _sum_of_trees(graph: GraphWriter, ensemble: TreeEnsemble, given: str) -> str:
    """
    Sum the values of the leaves that each row reaches, per output.

    The operator gives one number per leaf. If a leaf has several values, the operator gives the index of the leaf, by
    which the values are looked up.
    """
    trees, outputs = ensemble.trees, len(ensemble.start)
    if trees[0].values.shape[1] == 1:
        weights = np.concatenate([tree.values[tree.leaf, 0] for tree in trees])
        targets = np.concatenate([np.full(int(tree.leaf.sum()), tree.output) for tree in trees])
        return _ensemble(graph, trees, given, weights=weights, targets=targets, outputs=outputs)
    values = np.concatenate([tree.values[tree.leaf] for tree in trees])
    places = np.concatenate([np.full(int(tree.leaf.sum()), place) for place, tree in enumerate(trees)])
    numbered = np.arange(len(values), dtype=np.float64)
    numbers = _ensemble(graph, trees, given, weights=numbered, targets=places, outputs=len(trees))
    reached = graph.add("Gather", graph.constant(values), graph.cast(numbers, "INT64"))
    return graph.add("ReduceSum", reached, graph.constant(np.array([1])), keepdims=0)


def _ensemble(
    graph: GraphWriter,
    trees: Sequence[Tree],
    given: str,
    *,
    weights: NDArray[np.float64],
    targets: NDArray[np.int64],
    outputs: int,
) -> str:
    splits = _Splits(trees)
    return graph.add(
        "TreeEnsemble",
        given,
        domain="ai.onnx.ml",
        n_targets=outputs,
        aggregate_function=1,
        tree_roots=splits.roots,
        nodes_featureids=splits.features.tolist(),
        nodes_splits=graph.tensor(splits.thresholds, "splits"),
        nodes_modes=graph.tensor(np.zeros(len(splits.features), dtype=np.uint8), "modes"),
        nodes_missing_value_tracks_true=splits.missing_left.astype(np.int64).tolist(),
        nodes_truenodeids=splits.left.tolist(),
        nodes_trueleafs=splits.left_is_leaf.astype(np.int64).tolist(),
        nodes_falsenodeids=splits.right.tolist(),
        nodes_falseleafs=splits.right_is_leaf.astype(np.int64).tolist(),
        leaf_targetids=targets.tolist(),
        leaf_weights=graph.tensor(weights, "weights"),
    )


class _Splits:
    """The splits of all trees in one list; a child is the index of a split or of a leaf."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        parts: list[tuple[NDArray[Any], ...]] = []
        self.roots: list[int] = []
        splits = leaves = 0
        for tree in trees:
            self.roots.append(splits)
            parts.append(_numbered(tree, splits, leaves))
            splits, leaves = splits + len(parts[-1][0]), leaves + int(tree.leaf.sum())
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        self.features, self.thresholds, self.missing_left = joined[:3]
        self.left, self.left_is_leaf, self.right, self.right_is_leaf = joined[3:]


def _numbered(tree: Tree, splits: int, leaves: int) -> tuple[NDArray[Any], ...]:
    if tree.leaf.all():  # a tree that is one leaf: a split whose two children are that leaf
        leaf, yes = np.array([leaves]), np.array([True])
        return np.array([0]), np.array([0.0]), yes, leaf, yes, leaf, yes
    number = np.where(tree.leaf, leaves + np.cumsum(tree.leaf) - 1, splits + np.cumsum(~tree.leaf) - 1)
    inner = ~tree.leaf
    left, right = tree.left[inner], tree.right[inner]
    return (
        tree.feature[inner],
        tree.threshold[inner],
        tree.missing_left[inner],
        number[left],
        tree.leaf[left],
        number[right],
        tree.leaf[right],
    )
