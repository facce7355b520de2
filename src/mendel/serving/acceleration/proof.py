"""Convert a loaded model, and check that the graph gives the same answers as the model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from mendel.errors import InvalidInput, ModelError, Unsupported
from mendel.serving.acceleration.accelerated_predictor import AcceleratedPredictor, GraphInputs, ProvenRange
from mendel.serving.acceleration.onnx_conversion import convert_model, divide_model
from mendel.serving.acceleration.proof_rows import proof_rows
from mendel.serving.entities import Records
from mendel.serving.input_codec import InputCodec
from mendel.serving.input_contract import InputContract
from mendel.serving.parity import LEAST_SINGLES, first_difference
from mendel.serving.predictor import Outputs, Predictor
from mendel.serving.probe_rows import Probe
from mendel.serving.row_batches import Frame, assemble

_NEEDED: Final = ("onnx", "onnxruntime")
_ROWS_AT_ONCE: Final = 2500
"""The number of rows compared at once: small, so that requests to the same process do not wait for a comparison."""


def accelerated(
    original: Predictor,
    probe: Probe | None,
    *,
    rng: Generator,
    going_on: Callable[[], bool] = lambda: True,
) -> AcceleratedPredictor:
    """
    Make a predictor that answers with an ONNX graph, after comparing the graph with *original*.

    For the probe rows that the graph may answer, in one batch and at least 8 one by one, and for the rows of
    :func:`~mendel.serving.acceleration.proof_rows.proof_rows`, the graph must give equal labels, and numbers within the
    tolerance of *probe*.

    Args:
        going_on: Called between the steps; the comparison ends when the function returns False.

    Raises:
        Unsupported: The answers differ, or cannot be compared; the message is a part of a sentence.
    """
    if absent := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise Unsupported(f'the package {absent[0]!r} is not installed: pip install "mendel[onnx]"')
    contract = original.descriptor.contract
    if contract is None or not contract.columns:
        raise Unsupported("the version has no input contract")
    if probe is None or probe.unmeasured or not probe.rows:
        raise Unsupported(f"no probe rows: {probe.unmeasured}" if probe and probe.unmeasured else "no probe rows")

    def step() -> None:
        if not going_on():
            raise Unsupported("the comparison took too long, or the version was unloaded")

    def model_input(frame: Frame) -> Any:
        step()
        return original.model_input(frame)

    step()
    divided, converted = divide_model(original.model), convert_model(original.model, contract)
    asked = _probe_frame(probe, contract)
    rows = proof_rows(divided, contract, converted.known_texts, asked, model_input=model_input, rng=rng)
    proven = _range_of(GraphInputs(contract).of(rows).numbers)
    made = AcceleratedPredictor(original, contract, converted, proven, probe.tolerance)
    covered = [place for place in range(len(asked)) if made.covers(made.graph_input(asked.part([place])))]
    for places in ([covered] if covered else []) + [[place] for place in covered[:LEAST_SINGLES]]:
        frame = asked.part(places)
        _require_equal(_answers(original, frame), made.of_graph(frame), probe.tolerance, "on the probe rows")
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        step()
        frame = rows.part(slice(at, at + _ROWS_AT_ONCE))
        _require_equal(
            _answers(original, frame), made.of_graph(frame), probe.tolerance, "beside a threshold or an extreme"
        )
    return made


def _probe_frame(probe: Probe, contract: InputContract) -> Frame:
    codec = InputCodec(contract, order=None, max_rows=len(probe.rows))
    try:
        return assemble([codec.decode(Records(rows=probe.records))])
    except InvalidInput as error:
        raise Unsupported("the server refuses the probe rows") from error


def _range_of(numbers: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> ProvenRange:
    """Give the range of each column; a column that contains only nulls has an empty range."""
    return ProvenRange(
        lowest=np.nan_to_num(np.fmin.reduce(numbers), nan=np.inf),
        highest=np.nan_to_num(np.fmax.reduce(numbers), nan=-np.inf),
        nulls=np.asarray(np.isnan(numbers).any(axis=0)),
    )


def _answers(original: Predictor, frame: Frame) -> Outputs:
    try:
        return original.predict(frame)
    except ModelError as error:
        raise Unsupported("the model refuses rows that it could get") from error


def _require_equal(expected: Outputs, found: Outputs, tolerance: float, where: str) -> None:
    if expected.predictions == found.predictions and expected.probabilities == found.probabilities:
        return
    known = Probe(
        predictions=tuple(expected.predictions),
        probabilities=None if expected.probabilities is None else tuple(expected.probabilities),
        tolerance=tolerance,
    )
    if difference := first_difference(known, found):
        raise Unsupported(f"{where}, the converted model {difference}")
