"""Write fitted scikit-learn transformers as graph nodes that do the same calculations in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from mendel.errors import Unsupported
from mendel.serving.acceleration.graph_writer import Columns, GraphWriter
from mendel.serving.flavours.native_models import is_of
from mendel.values.data_frames import is_null


def transformed(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    """
    Write the fitted transformer *part* over *columns*, and give the transformed columns.

    Raises:
        Unsupported: The type or a setting of *part* cannot be converted.
    """
    write = _WRITERS.get(type(part).__name__)
    if write is None or not is_of(part, "sklearn"):
        raise Unsupported(f"{type(part).__name__} cannot be converted")
    return write(graph, part, columns)


def _pipeline(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    for _, step in part.steps:
        columns = columns if step in ("passthrough", None) else transformed(graph, step, columns)
    return columns


def _by_column(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    if part.transformer_weights:
        raise Unsupported("a ColumnTransformer with weights cannot be converted")
    places = part._transformer_to_input_indices  # noqa: SLF001 - scikit-learn gives resolved columns nowhere else
    made = []
    for name, step, _ in part.transformers_:
        chosen = tuple(columns[place] for place in places[name])
        if step == "drop" or not chosen:
            continue
        made.append(chosen if step == "passthrough" else transformed(graph, step, chosen))
    return graph.together([one for part in made for one in _by_source(part)])


def _by_source(columns: Columns) -> list[Columns]:
    """Split *columns* into groups of neighbours that come from the same tensor."""
    cut: list[Columns] = []
    for column in columns:
        if cut and cut[-1][-1].tensor == column.tensor:
            cut[-1] = (*cut[-1], column)
        else:
            cut.append((column,))
    return cut


def _identity(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    del graph
    if part.func is not None:
        raise Unsupported("a FunctionTransformer with a function cannot be converted")
    return columns


def _standard_scaler(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    return _calculated(
        graph, columns, ("Sub", part.mean_ if part.with_mean else None), ("Div", part.scale_ if part.with_std else None)
    )


def _robust_scaler(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    return _calculated(
        graph,
        columns,
        ("Sub", part.center_ if part.with_centering else None),
        ("Div", part.scale_ if part.with_scaling else None),
    )


def _max_abs_scaler(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    if getattr(part, "clip", False):
        raise Unsupported("a MaxAbsScaler with clip=True cannot be converted")
    return _calculated(graph, columns, ("Div", part.scale_))


def _min_max_scaler(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    if part.clip:
        raise Unsupported("a MinMaxScaler with clip=True cannot be converted")
    return _calculated(graph, columns, ("Mul", part.scale_), ("Add", part.min_))


def _calculated(graph: GraphWriter, columns: Columns, *steps: tuple[str, Any]) -> Columns:
    tensor = graph.numbers(columns)
    for operator, numbers in steps:
        if numbers is not None:
            tensor = graph.add(operator, tensor, graph.constant(np.asarray(numbers, dtype=np.float64)))
    return graph.made(tensor, len(columns))


def _simple_imputer(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    fills_nulls = is_null(part.missing_values)
    if not fills_nulls or part.add_indicator:
        raise Unsupported(
            "a SimpleImputer that replaces other values than nulls, or adds an indicator, cannot be converted"
        )
    if all(column.text for column in columns):
        return columns  # a row with a null text does not reach the graph
    fills = np.asarray(part.statistics_, dtype=np.float64)
    if np.isnan(fills).any():
        raise Unsupported("a SimpleImputer that drops columns without values cannot be converted")
    tensor = graph.numbers(columns)
    filled = graph.add("Where", graph.add("IsNaN", tensor), graph.constant(fills), tensor)
    return graph.made(filled, len(columns))


def _one_hot_encoder(graph: GraphWriter, part: Any, columns: Columns) -> Columns:
    rare = part.min_frequency is not None or part.max_categories is not None
    if part.drop is not None or rare or part.handle_unknown not in {"ignore", "error"}:
        raise Unsupported(
            "a OneHotEncoder with drop, with rare categories, or with handle_unknown='warn' cannot be converted"
        )
    made = []
    for column, categories in zip(columns, part.categories_, strict=True):
        values = categories.tolist()
        if column.text:
            texts = {value: place for place, value in enumerate(values) if isinstance(value, str)}
            if part.handle_unknown == "error":
                graph.known_texts[column.place] = graph.known_texts.get(column.place, texts.keys()) & texts.keys()
            found, places = _numbers_of_texts(graph, column, texts), np.arange(len(values))
        else:
            if part.handle_unknown == "error" or any(map(is_null, values)):
                raise Unsupported(
                    "a OneHotEncoder over numbers cannot be converted if it has nulls, or handle_unknown='error'"
                )
            found, places = graph.picked((column,)), np.asarray(values, dtype=np.float64)
        hot = graph.cast(graph.add("Equal", found, graph.constant(places.reshape(1, -1))), "DOUBLE")
        made.append(graph.made(hot, len(values)))
    return graph.together(made)


def _numbers_of_texts(graph: GraphWriter, column: Any, texts: Mapping[str, int]) -> str:
    return graph.add(
        "LabelEncoder",
        graph.picked((column,)),
        domain="ai.onnx.ml",
        keys_strings=list(texts),
        values_int64s=list(texts.values()),
        default_int64=-1,
    )


_WRITERS: Final[Mapping[str, Callable[[GraphWriter, Any, Columns], Columns]]] = {
    "ColumnTransformer": _by_column,
    "FunctionTransformer": _identity,
    "MaxAbsScaler": _max_abs_scaler,
    "MinMaxScaler": _min_max_scaler,
    "OneHotEncoder": _one_hot_encoder,
    "Pipeline": _pipeline,
    "RobustScaler": _robust_scaler,
    "SimpleImputer": _simple_imputer,
    "StandardScaler": _standard_scaler,
}
