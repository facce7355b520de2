"""Convert a fitted scikit-learn model to an ONNX graph that calculates in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mendel.errors import Unsupported
from mendel.serving.acceleration.fitted_trees import TreeEnsemble, is_tree_ensemble, tree_ensemble
from mendel.serving.acceleration.graph_writer import NUMBERS, TEXTS, Columns, GraphWriter, columns_of
from mendel.serving.acceleration.transformer_graphs import transformed
from mendel.serving.acceleration.tree_graphs import tree_answer, two_shares
from mendel.serving.flavours.native_models import is_of
from mendel.serving.input_contract import Container, Content, ContractColumn, InputContract
from mendel.serving.model_program import estimator_parts
from mendel.serving.row_batches import OBJECT

_MOST_ROWS: Final = 1000
_MOST_VALUES: Final = 8_000_000  # 64 MB of doubles for the leaves that the rows of one call reach
_SINGLE: Final = frozenset({"float32", "float16"})
_ACTIVATIONS: Final = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DividedModel:
    """
    A model, divided into the steps before its last estimator, and the last estimator.

    Attributes:
        before: A pipeline of the transformers before the last estimator; None without transformers.
        trees: The trees of the last estimator; None for an estimator without trees.
    """

    before: Any | None
    last: Any
    trees: TreeEnsemble | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedModel:
    """
    An ONNX graph.

    Attributes:
        known_texts: By the name of a text column: the only texts that may be passed to the graph.
        rows_at_once: The largest number of rows in one call, because a call needs memory for each row, tree and class.
    """

    graph: bytes
    rows_at_once: int = _MOST_ROWS
    known_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def is_text(column: ContractColumn) -> bool:
    """Tell whether a graph takes *column* as text; graphs take every other column as doubles."""
    return column.content is Content.TEXT


def divide_model(model: Any) -> DividedModel:
    """
    Divide *model*.

    Raises:
        Unsupported: The trees of *model* cannot be converted.
    """
    steps = list(model.steps) if is_of(model, "sklearn", "Pipeline") else [("model", model)]
    last = steps[-1][1]
    return DividedModel(
        before=type(model)(steps[:-1]) if len(steps) > 1 else None,
        last=last,
        trees=tree_ensemble(last) if is_tree_ensemble(last) else None,
    )


def convert_model(model: Any, contract: InputContract) -> ConvertedModel:
    """
    Give a graph whose outputs are the label and the probabilities of a classifier, or the answer of a regressor.

    Raises:
        Unsupported: A part of *model* or a column of its input is not converted; the message is a part of a sentence.
        ModelNotLoadable: The package ``onnx`` is not installed.
    """
    if any(callable(getattr(type(part), name, None)) for part in estimator_parts(model) for name in vars(part)):
        raise Unsupported("a method that was replaced on one object cannot be converted")
    divided, graph = divide_model(model), GraphWriter()
    single = [contract.array_dtype, *(column.dtype for column in contract.columns)]
    if divided.trees is not None and divided.before is not None and _SINGLE.intersection(map(str, single)):
        raise Unsupported("its steps before the trees calculate in float32, which rounds otherwise than the graph")
    columns = _input_columns(contract)
    texts = [column.name for column in contract.columns if is_text(column)]
    graph.inputs(len(contract.columns) - len(texts), len(texts))
    used = columns if divided.before is None else transformed(graph, divided.before, columns)
    inputs = sorted({column.tensor for column in columns})
    outputs = _outputs(graph, divided, graph.numbers(used))
    return ConvertedModel(
        graph=graph.serialised(inputs, outputs),
        rows_at_once=_MOST_ROWS if divided.trees is None else _rows_at_once(divided.trees),
        known_texts={texts[place]: tuple(sorted(known)) for place, known in graph.known_texts.items()},
    )


def _rows_at_once(trees: TreeEnsemble) -> int:
    values = len(trees.trees) * int(trees.trees[0].values.shape[1])
    return max(1, min(_MOST_ROWS, _MOST_VALUES // values))


def _input_columns(contract: InputContract) -> Columns:
    for column in contract.columns:
        numbers = column.held_as != OBJECT and column.content in {Content.FLOAT, Content.INTEGER, Content.BOOLEAN}
        texts = is_text(column) and contract.container is Container.FRAME
        if not texts and (not numbers or column.categories is not None):
            raise Unsupported(f"column {column.name!r} of type {column.dtype} cannot be converted")
    sources = {
        True: iter(columns_of(TEXTS, len(contract.columns), text=True)),
        False: iter(columns_of(NUMBERS, len(contract.columns))),
    }
    return tuple(next(sources[is_text(column)]) for column in contract.columns)


def _outputs(graph: GraphWriter, divided: DividedModel, given: str) -> list[str]:
    last = divided.last
    if divided.trees is not None:
        answer = tree_answer(graph, divided.trees, given)
        flat = True
    else:
        write = _ESTIMATORS.get(type(last).__name__)
        if write is None or not is_of(last, "sklearn"):
            raise Unsupported(f"{type(last).__name__} cannot be converted")
        answer = write(graph, last, given)
        flat = getattr(last, "coef_", np.zeros(1)).ndim == 1 and getattr(last, "n_outputs_", 1) == 1
    classes = getattr(last, "classes_", None)
    if classes is None:
        return [graph.add("Squeeze", answer, graph.constant(np.array([1])))] if flat else [answer]
    best = graph.add("ArgMax", answer, axis=1, keepdims=0)
    return [graph.add("Gather", graph.constant(_labels(classes)), best), answer]


def _labels(classes: Any) -> NDArray[Any]:
    """Convert the classes to a type that ONNX supports, without changing their JSON form."""
    kind = getattr(getattr(classes, "dtype", None), "kind", "")
    if kind == "i":
        return np.asarray(classes, dtype=np.int64)
    if kind in {"O", "U"} and all(isinstance(name, str) for name in classes.tolist()):
        return np.asarray(classes, dtype=object)
    if kind == "b":
        return np.asarray(classes)
    raise Unsupported("classes that are neither whole numbers, texts nor booleans cannot be converted")


def _linear(graph: GraphWriter, model: Any, given: str) -> str:
    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)).T
    product = graph.add("MatMul", given, graph.constant(weights))
    return graph.add("Add", product, graph.constant(np.asarray(model.intercept_, dtype=np.float64)))


def _logistic_regression(graph: GraphWriter, model: Any, given: str) -> str:
    total = _linear(graph, model, given)
    if len(model.classes_) == 2:  # noqa: PLR2004 - one column of scores
        return two_shares(graph, total)
    if model.solver != "liblinear":
        return graph.add("Softmax", total, axis=1)
    shares = graph.add("Sigmoid", total)
    return graph.add("Div", shares, graph.add("ReduceSum", shares, graph.constant(np.array([1])), keepdims=1))


def _perceptron(graph: GraphWriter, model: Any, given: str) -> str:
    last = len(model.coefs_) - 1
    for place, (weights, added) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        product = graph.add("MatMul", given, graph.constant(np.asarray(weights, dtype=np.float64)))
        given = graph.add("Add", product, graph.constant(np.asarray(added, dtype=np.float64)))
        if place < last and (activation := _ACTIVATIONS.get(model.activation)):
            given = graph.add(activation, given)
    match model.out_activation_:
        case "softmax":
            return graph.add("Softmax", given, axis=1)
        case "logistic" if model.n_outputs_ == 1:
            return two_shares(graph, given)
        case "identity":
            return given
        case other:
            raise Unsupported(f"a {type(model).__name__} whose last step is {other!r} cannot be converted")


_ESTIMATORS: Final[Mapping[str, Callable[[GraphWriter, Any, str], str]]] = {
    "ElasticNet": _linear,
    "Lasso": _linear,
    "LinearRegression": _linear,
    "LogisticRegression": _logistic_regression,
    "MLPClassifier": _perceptron,
    "MLPRegressor": _perceptron,
    "Ridge": _linear,
}
