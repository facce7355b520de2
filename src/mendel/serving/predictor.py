"""Call a loaded model and convert its return values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mendel.errors import MendelError, ModelFailed
from mendel.serving.decided_classes import DecidedClasses
from mendel.serving.input_contract import Container, InputContract, require_pandas
from mendel.serving.model_program import fitted_names, forget_names
from mendel.serving.prediction_outputs import divide, flat_classes, matrix_of, per_row, plain, probabilities_per_row
from mendel.serving.response_format import Body, ResponseFormat
from mendel.serving.row_batches import Frame
from mendel.values.library_versions import LibraryVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """
    The predictions for one frame.

    Attributes:
        predictions: One value of a builtin type per row.
        probabilities: One list per row; None when the model has no probabilities.
        matrix: The same probabilities as ``float64`` with shape (rows, classes).
        body: The return value of ``predict`` when ``api.response_format`` is ``custom`` or ``passthrough``, which plain
            JSON answers contain unchanged; otherwise None.
        proba_body: The return value of ``predict_proba``, likewise.
    """

    predictions: list[Any]
    probabilities: list[list[float | None]] | None = None
    matrix: NDArray[np.float64] | None = None
    body: Body | None = None
    proba_body: Body | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceleration:
    """
    Whether an ONNX graph answers in place of the loaded model (``serving.accelerate``).

    Attributes:
        accelerated: False while the loaded model answers.
        reason: Why the loaded model answers; empty otherwise.
        libraries: The versions of the libraries that made and run the graph.
    """

    accelerated: Literal["onnx", False]
    reason: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorDescriptor:
    """
    The properties of a predictor, as values that can be sent to another process.

    Attributes:
        class_name: The name of the model's class, for the metadata of answers.
        module: The name of the module of that class.
        classes: The classes in the order of the probabilities; for a model with several outputs one tuple of classes
            per output; None when the model does not list classes.
        dataframe: True when the model takes a DataFrame with named columns, False when the model takes an array, None
            when the input contract decides.
        contract: The columns and exact types that the model was fitted on; None when unknown.
        width: The number of calls that may run at once.
        order: The order of the features when the version has no contract; None when unknown.
        proba: True when the model has a method ``predict_proba``.
        endpoints: The methods that callers may use: ``predict``, ``predict_proba`` or both.
        adapter: The form of rows whose features have no names: see :class:`mendel.serving.input_codec.InputCodec`.
        response: The conversion of the model's return value to an answer.
        other_libraries: The libraries whose installed version differs from the version that wrote the model.
        acceleration: None where ``serving.accelerate`` is ``off``.
        answers: The v2 datatype and shape of the predictions and, if there are any, of the probabilities, where they
            are known before the first call; else empty.
    """

    class_name: str
    module: str
    classes: tuple[Any, ...] | None = None
    dataframe: bool | None = False
    contract: InputContract | None = None
    width: int = 1
    order: tuple[str, ...] | None = None
    proba: bool = False
    endpoints: frozenset[str] = frozenset({"predict", "predict_proba"})
    adapter: Literal["records", "ndarray", "auto"] = "auto"
    response: ResponseFormat = field(default_factory=ResponseFormat)
    other_libraries: tuple[LibraryVersion, ...] = ()
    acceleration: Acceleration | None = None
    answers: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def with_contract(self, contract: InputContract | None, names: tuple[str, ...] | None) -> PredictorDescriptor:
        """
        Give the description of a predictor whose input is converted by *contract*.

        Args:
            names: The names of the columns that the model was fitted on; None for a model without names.
        """
        dataframe, order, adapter = self.dataframe, self.order, self.adapter
        if dataframe is None:
            order = order or names
            dataframe = _takes_frames(contract, names)
            if names is None and contract is None:
                adapter = "ndarray"  # nothing says which feature of a record comes first
        return replace(self, contract=contract, dataframe=dataframe, order=order, adapter=adapter)

    def forgets_names(self, contract: InputContract | None, names: tuple[str, ...] | None) -> bool:
        """Tell whether the model must forget its *names*, because it receives arrays by *contract*."""
        return self.dataframe is None and names is not None and not _takes_frames(contract, names)

    def outputs(self, rows: int, returned: Any, returned_proba: Any) -> Outputs:
        """
        Convert what the model's methods returned for *rows* rows; *returned_proba* counts only if ``proba`` is set.

        Raises:
            ModelFailed: The model did not return one answer per row, or a value that JSON cannot represent.
        """
        if self.response.one_request_per_call:
            return self._returned_as_is(rows, plain(returned), returned_proba)
        predictions = self.response.shown(per_row(returned, rows))
        if not self.proba:
            return Outputs(predictions=predictions)
        matrix = self._matrix(returned_proba, rows)
        if matrix is not None:
            return Outputs(predictions=predictions, probabilities=matrix.tolist(), matrix=matrix)
        probabilities = probabilities_per_row(returned_proba, rows)
        return Outputs(
            predictions=predictions, probabilities=probabilities, matrix=matrix_of(probabilities, self.classes)
        )

    def _matrix(self, returned: Any, rows: int) -> NDArray[np.float64] | None:
        """Give the probabilities *returned* if they are finite numbers in one array with a column per class."""
        if not isinstance(returned, np.ndarray) or returned.dtype != np.float64 or not np.isfinite(returned).all():
            return None
        if self.classes is None:
            return returned if returned.shape == (rows, *returned.shape[1:2]) else None
        width = len(flat_classes(self.classes))
        return returned if returned.shape == (rows, width) else None

    def _returned_as_is(self, rows: int, returned: Any, returned_proba: Any) -> Outputs:
        response = self.response
        body = response.body(returned, proba=False)
        predictions = response.shown(divide(returned, rows))
        if response.validated and body is None and len(predictions) != rows:
            raise ModelFailed(f"The model returned {len(predictions)} answers for {rows} rows.")
        if not self.proba:
            return Outputs(predictions=predictions, body=body)
        plain_proba = plain(returned_proba)
        proba_body, rest = response.body(plain_proba, proba=True), Outputs(predictions=predictions, body=body)
        try:
            probabilities = probabilities_per_row(plain_proba, rows)
            matrix = matrix_of(probabilities, self.classes if response.validated else None)
        except ModelFailed:
            if proba_body is None:
                raise
            return replace(rest, proba_body=proba_body)
        return replace(rest, probabilities=probabilities, matrix=matrix, proba_body=proba_body)


def _takes_frames(contract: InputContract | None, names: tuple[str, ...] | None) -> bool:
    return names is not None if contract is None else contract.container is Container.FRAME


def classes_from(classes: list[Any] | None) -> tuple[Any, ...] | None:
    """Give the classes that :func:`~mendel.serving.model_program.classes_of` found, one tuple per output."""
    if classes is None:
        return None
    return tuple(tuple(inner) if isinstance(inner, list) else inner for inner in classes)


class Predictor:
    """
    A loaded model with its description.

    Args:
        model: An object with a method ``predict(X)`` and optionally ``predict_proba(X)`` and ``close()``.
    """

    def __init__(self, model: Any, descriptor: PredictorDescriptor) -> None:
        self.model = model
        self.descriptor = descriptor
        standard = descriptor.proba and not descriptor.response.one_request_per_call
        self._decision = DecidedClasses.of(model) if standard else None

    def with_contract(self, contract: InputContract | None) -> Predictor:
        """Give a predictor of the same model whose input is converted by *contract*."""
        names = fitted_names(self.model) if self.descriptor.dataframe is None else None
        if self.descriptor.forgets_names(contract, names):
            forget_names(self.model)
        return Predictor(self.model, self.descriptor.with_contract(contract, names))

    def predict(self, frame: Frame) -> Outputs:
        """
        Predict every row of *frame*.

        Args:
            frame: The rows of several requests; of a single request if ``response.one_request_per_call``.

        Raises:
            ModelFailed: The model raised an exception, or did not return one answer per row.
        """
        x = self.model_input(frame)
        decision = self._decision
        if decision is not None and decision.accepted:
            returned_proba = self._call(self.model.predict_proba, x)
            returned: Any = decision.decide(returned_proba)
            if returned is None:
                returned = self._call(self.model.predict, x)
        else:
            returned = self._call(self.model.predict, x)
            returned_proba = self._call(self.model.predict_proba, x) if self.descriptor.proba else None
            if decision is not None:
                decision.compare(returned, returned_proba)
        return self.descriptor.outputs(len(frame), returned, returned_proba)

    def checked(self) -> None:
        """Call the model once per batch from now on, if the calls so far have shown that one call is enough."""
        if self._decision is not None and not self._decision.accept():
            self._decision = None

    def described(self, descriptor: PredictorDescriptor) -> Predictor:
        """Give a predictor of the same model with another description; it calls the model as often as this one."""
        made = Predictor(self.model, descriptor)
        made._decision = self._decision
        return made

    def close(self) -> None:
        """Call the model's method ``close`` if it has one; an exception becomes a RuntimeWarning."""
        close = getattr(self.model, "close", None)
        if close is None:
            return
        try:
            self._call(close)
        except ModelFailed as error:
            warnings.warn(f"Closing the model {self.descriptor.class_name}: {error}", RuntimeWarning, stacklevel=2)

    def model_input(self, frame: Frame) -> Any:
        """Convert the rows of *frame* to the data frame or array that the model takes."""
        contract = self.descriptor.contract
        if contract is not None and contract.columns:
            return contract.frame(frame) if self.descriptor.dataframe else contract.array(frame)
        if self.descriptor.dataframe:
            return require_pandas().DataFrame(dict(zip(frame.shape.names, frame.columns, strict=True)))
        return frame.matrix

    @staticmethod
    def _call(function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except MendelError:
            raise
        except BaseException as error:  # SystemExit too, which would otherwise end the worker process
            text = str(error) or "without a message"
            raise ModelFailed(f"The model raised {type(error).__name__}: {text[:500]}") from error
