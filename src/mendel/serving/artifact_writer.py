"""Writing an artefact's directory, as MLflow would and our loader reads it, without importing MLflow."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mendel.drift import Reference
from mendel.errors import InvalidValue
from mendel.projects import Project
from mendel.serving.artifact_loading import load
from mendel.serving.input_codec import frame_of
from mendel.serving.prediction_records import class_names, prediction_column
from mendel.serving.predictor import Predictor
from mendel.serving.row_batches import Frame, objects
from mendel.values import ColumnSpec, ColumnType, Digest, Signature, Table, to_json
from mendel.values.directory_trees import tree_digest

GOLDEN_ROWS = 5
GOLDEN_INPUT = "input_example.json"
REFERENCE = "mendel/reference.json"


def infer_signature(features: Any, outputs: Any = None) -> Signature:
    """
    The signature of *features*: a Table, a DataFrame, or an array of shape (rows, columns), whose columns are x0, x1...

    A column with a missing value allows null.

    >>> infer_signature(np.zeros((2, 1))).inputs
    (ColumnSpec(name='x0', type=<ColumnType.DOUBLE: 'double'>, required=True),)
    """
    table = as_table(features)
    output = None if outputs is None else _column_type(np.asarray(outputs))
    return Signature.of_columns(tuple(_spec(name, table[name]) for name in table.names), output=output)


def as_table(features: Any) -> Table:
    """A Table of a Table, a DataFrame or an array of shape (rows, columns)."""
    if isinstance(features, Table):
        return features
    if hasattr(features, "columns"):
        return Table({str(name): _normal(np.asarray(features[name])) for name in features.columns})
    array = np.asarray(features)
    if array.ndim != 2:  # noqa: PLR2004 - rows by columns
        raise InvalidValue(f"Features of shape {array.shape} are not rows by columns.")
    return Table({f"x{place}": _normal(array[:, place]) for place in range(array.shape[1])})


def write_artifact(
    model: Any,
    directory: Path,
    *,
    signature: Signature | None = None,
    input_example: Any = None,
    task: str = "classification",
    training: Any = None,
) -> Digest:
    """
    Write the artefact of a scikit-learn-compatible estimator.

    Args:
        directory: Made; must be empty.
        signature: Inferred from *input_example* or *training* where not given.
        input_example: The golden input; the first rows of *training* where not given.
        training: Features it was trained on, without the target; its drift reference is kept with the artefact.

    Returns:
        The digest of the directory.
    """
    import joblib  # noqa: PLC0415 - only where a model is written

    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise InvalidValue(f"{directory} is not empty.")
    joblib.dump(model, directory / "model.joblib")
    flavor = {
        "pickled_model": "model.joblib",
        "serialization_format": "joblib",
        "sklearn_version": version("scikit-learn"),
        "code": None,
    }
    python_function = {"loader_module": "mlflow.sklearn", "model_path": "model.joblib", "predict_fn": "predict"}
    flavors = {"sklearn": flavor, "python_function": python_function | {"python_version": platform.python_version()}}
    parts = _Parts(signature=signature, input_example=input_example, task=task, training=training)
    return _complete(directory, flavors, parts, project=None)


def write_project_artifact(
    directory: Path,
    *,
    classifier: str,
    project: Project,
    signature: Signature | None = None,
    input_example: Any = None,
    task: str = "classification",
    classes: tuple[Any, ...] | None = None,
    training: Any = None,
) -> Digest:
    """
    Complete the artefact of a project's classifier, whose own files, if any, already lie in *directory*.

    The predictor is built once here where *training* is given, so that the reference holds what it answers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    flavor: dict[str, Any] = {"classifier": str(classifier), "task": task}
    if classes is not None:
        flavor["classes"] = [value.item() if isinstance(value, np.generic) else value for value in classes]
    parts = _Parts(signature=signature, input_example=input_example, task=task, training=training)
    return _complete(directory, {"mendel": flavor}, parts, project=project)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What stands beside the model in its directory."""

    signature: Signature | None
    input_example: Any
    task: str
    training: Any


def _complete(directory: Path, flavors: dict[str, Any], parts: _Parts, *, project: Project | None) -> Digest:
    signature = parts.signature
    base = None if parts.training is None else as_table(parts.training)
    example = as_table(parts.input_example) if parts.input_example is not None else base
    if signature is None and example is not None:
        signature = infer_signature(base if base is not None else example)
    if example is not None:
        _write_golden(directory, example.take(np.arange(min(GOLDEN_ROWS, len(example)))), signature)
    document: dict[str, Any] = {"flavors": flavors, "metadata": {"task": parts.task}}
    if signature is not None:
        document["signature"] = signature.to_mlflow()
    if example is not None:
        document["saved_input_example_info"] = {
            "artifact_path": GOLDEN_INPUT,
            "pandas_orient": "split",
            "type": "dataframe",
        }
    (directory / "MLmodel").write_text(yaml.safe_dump(document, sort_keys=True), encoding="utf-8")
    if base is not None:
        features = base.select(signature.names) if signature and signature.inputs else base
        _write_reference(directory, features, load(directory, digest=None, project=project), signature)
    return tree_digest(directory, exclude=("data",))


def _write_golden(directory: Path, example: Table, signature: Signature | None) -> None:
    names = signature.names if signature and signature.inputs else example.names
    columns = [example[name].tolist() for name in names]
    content = {"columns": list(names), "data": [list(row) for row in zip(*columns, strict=True)]}
    (directory / GOLDEN_INPUT).write_bytes(to_json(content))


def _write_reference(directory: Path, features: Table, predictor: Predictor, signature: Signature | None) -> None:
    frame = frame_of(features, signature)
    reference = Reference.fit(features.with_columns(outputs_of(predictor, frame)))
    path = directory / REFERENCE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(reference.to_json())


def outputs_of(predictor: Predictor, frame: Frame) -> dict[str, np.ndarray[Any, Any]]:
    """The columns that the prediction log has of an answer: ``prediction`` and, where there are, ``proba.<class>``."""
    answered = predictor.predict(frame)
    columns = {"prediction": prediction_column(answered.predictions)}
    if answered.matrix is not None:
        names = class_names(predictor.classes or (), answered.matrix.shape[1])
        columns |= {f"proba.{name}": answered.matrix[:, place] for place, name in enumerate(names)}
    return columns


def _spec(name: str, column: np.ndarray[Any, Any]) -> ColumnSpec:
    missing = np.isnan(column).any() if column.dtype.kind == "f" else any(value is None for value in column.tolist())
    return ColumnSpec(name=name, type=_column_type(column), required=not missing)


def _column_type(column: np.ndarray[Any, Any]) -> ColumnType:
    if column.dtype.kind == "O":
        kinds = {type(value) for value in column.tolist()} - {type(None)}
        if kinds == {bool}:
            return ColumnType.BOOLEAN
        return ColumnType.STRING
    return {"b": ColumnType.BOOLEAN, "i": ColumnType.LONG, "u": ColumnType.LONG, "f": ColumnType.DOUBLE}.get(
        column.dtype.kind, ColumnType.STRING
    )


def _normal(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """*column* as a Table holds it."""
    if column.dtype.kind in "iuf":
        return column.astype(np.float64)
    if column.dtype.kind == "b":
        return column
    values = [None if value is None or value != value else value for value in column.tolist()]  # noqa: PLR0124 - NaN is null
    if all(type(value) in {int, float, type(None)} for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return objects([value if value is None or isinstance(value, bool) else str(value) for value in values])
