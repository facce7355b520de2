"""Answer with an ONNX graph for rows on which the graph was compared with the model, else with the loaded model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from mendel.serving.acceleration.graph_writer import NUMBERS, TEXTS
from mendel.serving.acceleration.onnx_conversion import ConvertedModel, is_text
from mendel.serving.flavours.native_models import required
from mendel.serving.input_contract import Container, InputContract
from mendel.serving.model_faults import place_of
from mendel.serving.prediction_outputs import per_row, probabilities_per_row
from mendel.serving.predictor import Acceleration, Outputs, Predictor
from mendel.serving.row_batches import Frame
from mendel.values.library_versions import installed_version

_log = structlog.get_logger("mendel.acceleration")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProvenRange:
    """
    The values of the columns of numbers with which the graph was compared.

    Attributes:
        lowest, highest: The smallest and the largest value per column.
        nulls: Whether nulls were among the values, per column.
    """

    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    nulls: NDArray[np.bool_]

    def holds(self, numbers: NDArray[np.float64]) -> bool:
        """Tell whether every value is in the range, and nulls are only where nulls were compared."""
        outside = (numbers < self.lowest) | (numbers > self.highest) | (np.isnan(numbers) & ~self.nulls)
        return not outside.any()


@dataclass(frozen=True, slots=True, eq=False)
class GraphInput:
    """The rows of a batch in the form that the graph takes: doubles, and texts or None."""

    numbers: NDArray[np.float64]
    texts: NDArray[Any]


class GraphInputs:
    """Converts batches to the inputs of the graph of a model with *contract*."""

    def __init__(self, contract: InputContract) -> None:
        self._contract = contract
        self.texts = [place for place, column in enumerate(contract.columns) if is_text(column)]
        self.numbers = [place for place, column in enumerate(contract.columns) if not is_text(column)]

    def of(self, frame: Frame) -> GraphInput:
        rows = len(frame)
        if self._contract.container is Container.ARRAY:
            numbers = self._contract.array(frame)
        elif frame.floats is not None:
            numbers = frame.floats
        else:
            numbers = _side_by_side([frame.columns[place] for place in self.numbers], rows, np.float64)
        texts = _side_by_side([frame.columns[place] for place in self.texts], rows, object)
        return GraphInput(np.ascontiguousarray(numbers, dtype=np.float64), texts)


def _side_by_side(columns: list[NDArray[Any]], rows: int, kind: Any) -> NDArray[Any]:
    made = np.empty((rows, len(columns)), dtype=kind)
    for place, column in enumerate(columns):
        made[:, place] = column
    return made


class Graph:
    """A session of onnxruntime with one thread, which gives the label and the probabilities, or the answer."""

    def __init__(self, content: bytes, rows_at_once: int) -> None:
        self._at_once = rows_at_once
        runtime = required("onnxruntime", extra="onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = runtime.InferenceSession(content, sess_options=options, providers=["CPUExecutionProvider"])
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, given: GraphInput) -> list[NDArray[Any]]:
        rows = len(given.numbers)
        parts = [self._run(given, slice(at, at + self._at_once)) for at in range(0, rows, self._at_once)]
        return parts[0] if len(parts) == 1 else [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _run(self, given: GraphInput, rows: slice) -> list[NDArray[Any]]:
        tensors = {NUMBERS: given.numbers[rows], TEXTS: given.texts[rows]}
        answers: list[NDArray[Any]] = self._session.run(self._outputs, {name: tensors[name] for name in self._inputs})
        return answers


class AcceleratedPredictor(Predictor):
    """
    A predictor whose answers come from an ONNX graph.

    The loaded model answers a batch with a number outside the compared range, with a null text, or with a text that the
    model refuses. It also answers a batch with a row whose two best classes are nearly equally probable, because the
    rounding of the last digit decides there, and every batch for which the graph fails. Errors are those of the loaded
    model.

    Args:
        original: The predictor of the loaded model.
        tolerance: The largest difference between the probabilities of the graph and of the model.
    """

    def __init__(
        self,
        original: Predictor,
        contract: InputContract,
        converted: ConvertedModel,
        proven: ProvenRange,
        tolerance: float,
    ) -> None:
        libraries = {name: installed_version(name) or "" for name in ("onnx", "onnxruntime", "scikit-learn")}
        acceleration = Acceleration(accelerated="onnx", libraries=libraries)
        super().__init__(original.model, replace(original.descriptor, acceleration=acceleration))
        self._inputs = GraphInputs(contract)
        self._graph = Graph(converted.graph, converted.rows_at_once)
        self._proven = proven
        self._margin = 2 * tolerance
        self._failed = False
        names = [contract.names[place] for place in self._inputs.texts]
        self._known = [
            None if (known := converted.known_texts.get(name)) is None else frozenset(known) for name in names
        ]

    def predict(self, frame: Frame) -> Outputs:
        try:
            given = self.graph_input(frame)
            answers = self._graph.run(given) if self.covers(given) else None
        except Exception as error:  # noqa: BLE001 - the loaded model answers whatever the graph cannot
            self._note_failure(error)
            answers = None
        if answers is None or not self._decided(answers):
            return super().predict(frame)
        return self._shown(answers, len(given.numbers))

    def graph_input(self, frame: Frame) -> GraphInput:
        return self._inputs.of(frame)

    def covers(self, given: GraphInput) -> bool:
        """Tell whether the graph was compared with rows such as these."""
        if not self._proven.holds(given.numbers):
            return False
        columns = zip(given.texts.T.tolist(), self._known, strict=True)
        return all(
            all(type(text) is str for text in texts) and (known is None or known.issuperset(texts))
            for texts, known in columns
        )

    def of_graph(self, frame: Frame) -> Outputs:
        """Give the answers of the graph, even for rows outside the compared range."""
        return self._answered(self.graph_input(frame))

    def _note_failure(self, error: Exception) -> None:
        """Say once that the graph fails, since then every answer takes the time of the loaded model."""
        if not self._failed:
            self._failed = True
            _log.warning("graph_failed", error=place_of(error), answers="the loaded model answers instead")

    def _decided(self, answers: list[NDArray[Any]]) -> bool:
        """Tell whether in every row one class is more probable than every other class by more than the tolerance."""
        if not self.descriptor.proba or answers[1].shape[1] == 1:
            return True
        best = np.partition(answers[1], -2, axis=1)[:, -2:]
        return bool((best[:, 1] - best[:, 0] > self._margin).all())

    def _answered(self, given: GraphInput) -> Outputs:
        return self._shown(self._call(self._graph.run, given), len(given.numbers))

    def _shown(self, answers: list[NDArray[Any]], rows: int) -> Outputs:
        predictions = self.descriptor.response.shown(per_row(answers[0], rows))
        if not self.descriptor.proba:
            return Outputs(predictions=predictions)
        return Outputs(
            predictions=predictions, probabilities=probabilities_per_row(answers[1], rows), matrix=answers[1]
        )
