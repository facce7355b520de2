"""Write the directory of a model artefact in MLflow's format, without importing MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mendel.drift import Reference
from mendel.projects import Project
from mendel.serving.artifact_loading import load_described
from mendel.serving.flavours.flavour_table import flavour_for
from mendel.serving.input_codec import frame_of
from mendel.serving.mlmodel import INPUT_EXAMPLE, Mlmodel, write_mlmodel
from mendel.serving.packed_code import pack_code, with_code
from mendel.serving.prediction_records import class_names, prediction_column
from mendel.serving.predictor import Predictor
from mendel.serving.row_batches import Frame
from mendel.serving.signature_inference import as_table, infer_signature
from mendel.values import Digest, Signature, Table, to_json
from mendel.values.directory_trees import tree_digest

GOLDEN_ROWS: Final = 5
REFERENCE: Final = "mendel/reference.json"


def write_artifact(
    model: Any,
    directory: Path,
    *,
    signature: Signature | None = None,
    input_example: Any = None,
    task: str = "classification",
    training: Any = None,
    project: Project | None = None,
    code_paths: Sequence[str | Path] = (),
) -> Digest:
    """
    Write the artefact of *model* into *directory*: the model, its signature, input example and drift reference.

    Args:
        model: A fitted estimator, or a :class:`~mendel.serving.flavours.project_classifier.TrainedClassifier`, whose
            training has already written its files, if any, into *directory*.
        directory: Created if absent.
        signature: None infers the signature from *training*, or from *input_example* without *training*.
        input_example: Rows that a server predicts once when it loads the model; at most 5 are kept. None takes the
            first rows of *training*.
        training: The features of the training rows, without the target. From them, and from the model's predictions for
            them, the drift reference is computed. None writes no reference.
        project: The project of the classifier; None for an estimator.
        code_paths: Files and directories with the model's own modules, packed as ``code/``.

    Returns:
        The digest of the directory.

    Raises:
        Unsupported: No flavour in ``FLAVOURS`` recognises the model.
        InvalidValue: The directory holds a file that does not belong to the model.
        InvalidInput: The model cannot be pickled, or a code path cannot be packed.
    """
    flavour = flavour_for(model)
    directory.mkdir(parents=True, exist_ok=True)
    pack_code(code_paths, directory)
    flavors = with_code(flavour.write(model, directory), directory)
    base = None if training is None else as_table(training)
    example = base if input_example is None else as_table(input_example)
    if signature is None and example is not None:
        signature = infer_signature(example if base is None else base)
    if example is not None:
        _write_golden(directory, example.take(np.arange(min(GOLDEN_ROWS, len(example)))), signature)
    mlmodel = Mlmodel(flavors=flavors, signature=signature)
    write_mlmodel(directory, mlmodel, task=task)
    if base is not None:
        features = base.select(signature.names) if signature and signature.inputs else base
        predictor = load_described(directory, mlmodel, project)
        _write_reference(directory, features, predictor, signature)
        predictor.close()
    return tree_digest(directory, exclude=("data",))


def _write_golden(directory: Path, example: Table, signature: Signature | None) -> None:
    names = signature.names if signature and signature.inputs else example.names
    columns = [example[name].tolist() for name in names]
    content = {"columns": list(names), "data": [list(row) for row in zip(*columns, strict=True)]}
    (directory / INPUT_EXAMPLE).write_bytes(to_json(content))


def _write_reference(directory: Path, features: Table, predictor: Predictor, signature: Signature | None) -> None:
    frame = frame_of(features, signature)
    reference = Reference.fit(features.with_columns(outputs_of(predictor, frame)))
    path = directory / REFERENCE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(reference.to_json())


def outputs_of(predictor: Predictor, frame: Frame) -> dict[str, np.ndarray[Any, Any]]:
    """
    Predict *frame* and give the outputs as columns named like those of the prediction log.

    The columns are ``prediction`` and, for a predictor with probabilities, one ``proba.<class>`` per class.
    """
    answered = predictor.predict(frame)
    columns = {"prediction": prediction_column(answered.predictions)}
    if answered.matrix is not None:
        names = class_names(predictor.descriptor.classes or (), answered.matrix.shape[1])
        columns |= {f"proba.{name}": answered.matrix[:, place] for place, name in enumerate(names)}
    return columns
