"""Write an artefact in MLflow's format, and check that the artefact gives the same answers as the fitted model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from mendel.drift import Reference, input_name
from mendel.errors import InvalidInput
from mendel.projects import Project
from mendel.serving.artifact_loading import load_described, load_without_contract
from mendel.serving.entities import Matrix
from mendel.serving.flavours.flavour_table import flavour_for
from mendel.serving.flavours.project_classifier import TrainedClassifier
from mendel.serving.flavours.remote_model import RemoteModel
from mendel.serving.input_codec import InputCodec, frame_of
from mendel.serving.input_contract import Container, Content, InputContract, write_contract
from mendel.serving.mlmodel import INPUT_EXAMPLE, Mlmodel, read_mlmodel, write_mlmodel
from mendel.serving.model_program import answers_arrays_alike
from mendel.serving.packed_code import pack_code, with_code
from mendel.serving.parity import SINGLES_FOR_S, check_parity, write_parity
from mendel.serving.prediction_records import class_names, prediction_column
from mendel.serving.predictor import Predictor
from mendel.serving.probe_rows import MOST_ROWS, OwnRows, Probe, take_probe, write_probe
from mendel.serving.response_format import ResponseFormat
from mendel.serving.row_batches import Frame
from mendel.serving.signature_inference import infer_contract, output_text
from mendel.values import Digest, Signature, Table, to_json
from mendel.values.directory_trees import tree_digest
from mendel.values.parity import ParityReport, ParityStatus

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
    flavor: str | None = None,
) -> Digest:
    """
    Write the artefact of *model*, which a flavour of the table must recognise.

    If rows are given, the written artefact is loaded, its answers to the probe rows are compared with the answers of
    *model*, and the parity report is written into the artefact.

    Args:
        model: A fitted estimator, or a :class:`~mendel.serving.flavours.project_classifier.TrainedClassifier`, whose
            training has already written its files, if any, into *directory*; or a
            :class:`~mendel.serving.flavours.remote_model.RemoteModel`, which is not asked for answers.
        directory: Created if absent.
        signature: None infers the signature from *training*, or from *input_example* without *training*.
        input_example: Rows that a server predicts once when it loads the model; at most 5 are kept. None takes the
            first rows of *training*.
        training: The features of the training rows, without the target, as the caller gave them. The drift reference
            is computed from these rows and the model's predictions. None writes no reference.
        project: The project of the classifier; None for an estimator.
        code_paths: Files and directories with the model's own modules, packed as ``code/``.
        flavor: The flavour that writes the model; None takes the one that recognises the model's type.

    Returns:
        The digest of the directory.

    Raises:
        Unsupported: No flavour in ``FLAVOURS`` recognises the model.
        InvalidValue: The directory holds a file that does not belong to the model.
        InvalidInput: The model cannot be pickled, a code path cannot be packed, or the signature or the rows contradict
            the names that the model was fitted on, or the model cannot answer the rows.
        ModelNotLoadable: The written artefact cannot be loaded.
    """
    flavour = flavour_for(model, flavor)
    directory.mkdir(parents=True, exist_ok=True)
    pack_code(code_paths, directory)
    flavors = with_code(flavour.write(model, directory), directory)
    model = flavour.answering(model)
    rows = input_example if training is None else training
    contract = infer_contract(model, signature=signature, rows=rows)
    if contract is not None:
        signature = contract.announced(signature)
        write_contract(directory, contract)
        example = rows if input_example is None else input_example
        if example is not None:
            _write_golden(directory, contract, OwnRows(example, contract))
    mlmodel = Mlmodel(flavors=flavors, signature=signature)
    write_mlmodel(directory, mlmodel, task=task)
    if isinstance(model, RemoteModel):
        write_parity(directory, ParityReport.not_measured("the model runs on other servers"))
    if contract is None or rows is None or isinstance(model, RemoteModel):
        return tree_digest(directory, exclude=("data",))
    predictor, probe = _prove(model, directory, mlmodel, contract, rows, project)
    if signature is not None and signature.outputs_text is None and probe.predictions:
        mlmodel = replace(mlmodel, signature=replace(signature, outputs_text=output_text(probe.predictions)))
        write_mlmodel(directory, mlmodel, task=task)
    if training is not None:
        _write_reference(directory, OwnRows(training, contract).table(), predictor)
    predictor.close()
    return tree_digest(directory, exclude=("data",))


def _prove(  # noqa: PLR0917 - what is written, where, and what proves it
    model: Any,
    directory: Path,
    mlmodel: Mlmodel,
    contract: InputContract,
    rows: Any,
    project: Project | None,
) -> tuple[Predictor, Probe]:
    """Write the input contract, the probe rows and the parity report; returns the predictor as servers load it."""
    if isinstance(model, TrainedClassifier):
        predictor = _loaded(directory, mlmodel, contract, project)
        probe = _probe_of_project(predictor, contract, rows)
    else:
        probe = take_probe(model, contract, rows)
        predictor = _fastest(model, directory, mlmodel, contract, probe)
    report = check_predictor(predictor, probe)
    write_probe(directory, probe)
    write_parity(directory, report)
    return predictor, probe


def _fastest(model: Any, directory: Path, mlmodel: Mlmodel, contract: InputContract, probe: Probe) -> Predictor:
    """Pass arrays instead of data frames, which is faster, if the model gives the same answers to the probe rows."""
    if contract.container is Container.FRAME and contract.numeric and answers_arrays_alike(model):
        by_place = replace(contract, container=Container.ARRAY)
        predictor = _loaded(directory, mlmodel, by_place)
        if check_predictor(predictor, probe).status is ParityStatus.PASSED:
            return predictor
        predictor.close()
    return _loaded(directory, mlmodel, contract)


def _loaded(directory: Path, mlmodel: Mlmodel, contract: InputContract, project: Project | None = None) -> Predictor:
    write_contract(directory, contract)
    return load_described(directory, mlmodel, project)


def take_probe_of_artifact(directory: Path, rows: Any, project: Project | None) -> Probe:
    """
    Let the stored model of the artefact in *directory* answer hard rows of *rows* directly, without Mendel's codec.

    The model and its own names decide the order and the container of the rows, not the artefact's input contract.

    Args:
        rows: Rows that the fitted model takes, in the caller's own container; further columns are ignored.
    """
    mlmodel = read_mlmodel(directory)
    predictor = load_without_contract(directory, mlmodel, project)
    try:
        contract = infer_contract(predictor.model, signature=mlmodel.signature, rows=rows)
        if contract is None:
            return Probe(unmeasured="the file has no columns")
        if "mendel" in mlmodel.flavors:
            return _probe_of_project(predictor, contract, rows)
        return take_probe(predictor.model, contract, rows)
    except InvalidInput as error:
        return Probe(unmeasured=error.message)
    finally:
        predictor.close()


def _probe_of_project(predictor: Predictor, contract: InputContract, rows: Any) -> Probe:
    """Get the expected answers from the release's predictor class, which receives the rows without conversion."""
    if predictor.descriptor.response != ResponseFormat():
        return Probe(unmeasured="the project lets its predictor answer in its own format (api.response_format)")
    container = Container.FRAME if predictor.descriptor.dataframe else Container.ARRAY
    try:
        return take_probe(predictor.model, replace(contract, container=container), rows)
    except InvalidInput as error:
        return Probe(unmeasured=error.message)


def check_predictor(predictor: Predictor, probe: Probe | None, *, singles_for_s: float = SINGLES_FOR_S) -> ParityReport:
    """Send the probe rows as requests to *predictor*, and compare its answers with the expected answers in *probe*."""
    codec = InputCodec(predictor.descriptor.contract, order=predictor.descriptor.order, max_rows=MOST_ROWS * 2)
    return check_parity(probe, codec, predictor.predict, steady=time.perf_counter, singles_for_s=singles_for_s)


def _write_golden(directory: Path, contract: InputContract, example: OwnRows) -> None:
    rows = [example.wire_row(place) for place in range(min(GOLDEN_ROWS, len(example)))]
    try:
        InputCodec(contract, order=None, max_rows=GOLDEN_ROWS).decode(Matrix(rows=rows, columns=contract.names))
    except InvalidInput as error:
        raise InvalidInput(
            f"The input example does not have the types of the training data: {error.message}",
            remedy="Give an input example with the types of the training data, or leave input_example out.",
        ) from error
    (directory / INPUT_EXAMPLE).write_bytes(to_json({"columns": list(contract.names), "data": rows}))


def _write_reference(directory: Path, features: Table, predictor: Predictor) -> None:
    contract = predictor.descriptor.contract
    answers = outputs_of(predictor, frame_of(features, contract))
    times = (
        () if contract is None else (c.name for c in contract.columns if c.content in {Content.DATETIME, Content.DATE})
    )
    inputs = {input_name(name): column for name, column in features.without(*times).columns.items()}
    path = directory / REFERENCE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(Reference.fit(Table({**inputs, **answers})).to_json())


def outputs_of(predictor: Predictor, frame: Frame) -> dict[str, np.ndarray[Any, Any]]:
    """Give the answers as columns of the prediction log: ``prediction`` and, with probabilities, ``proba.<class>``."""
    answered = predictor.predict(frame)
    columns = {"prediction": prediction_column(answered.predictions)}
    if answered.matrix is not None:
        names = class_names(predictor.descriptor.classes or (), answered.matrix.shape[1])
        columns |= {f"proba.{name}": answered.matrix[:, place] for place, name in enumerate(names)}
    return columns
