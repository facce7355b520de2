"""The live object that answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mendel.errors import MendelError, ModelFailed
from mendel.serving.prediction_outputs import divide, matrix_of, per_row, plain, probabilities_per_row
from mendel.serving.response_format import Body, ResponseFormat
from mendel.serving.row_batches import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """
    What a predictor answered for one frame.

    Attributes:
        predictions: One builtin value per row.
        probabilities: One list per row, or None where the predictor gives none.
        matrix: The same probabilities as ``float64``, shape (rows, classes).
        body: Where the predictor's own return is the answer of the plain routes; so ``proba_body``.
    """

    predictions: list[Any]
    probabilities: list[list[float | None]] | None = None
    matrix: NDArray[np.float64] | None = None
    body: Body | None = None
    proba_body: Body | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorDescriptor:
    """
    What callers need to know of a predictor; plain values, which can cross to another process.

    Attributes:
        class_name: Of the model, for the metadata of answers; so ``module``.
        classes: In the order of the probabilities; None where it has none or does not say.
        dataframe: The model takes a DataFrame with named columns, not an array.
        width: How many calls may run at once.
        order: The order of features where there is no signature.
        proba: The model gives probabilities.
        endpoints: Which of ``predict`` and ``predict_proba`` callers may ask for.
        adapter: How rows come where nothing names their features: see :class:`mendel.serving.input_codec.InputCodec`.
        response: How the model's return becomes the answer.
    """

    class_name: str
    module: str
    classes: tuple[Any, ...] | None = None
    dataframe: bool = False
    width: int = 1
    order: tuple[str, ...] | None = None
    proba: bool = False
    endpoints: frozenset[str] = frozenset({"predict", "predict_proba"})
    adapter: Literal["records", "ndarray", "auto"] = "auto"
    response: ResponseFormat = field(default_factory=ResponseFormat)


class Predictor:
    """
    A loaded model: frames in, outputs out.

    Args:
        model: Has ``predict(X)`` and perhaps ``predict_proba(X)`` and ``close()``.
    """

    def __init__(self, model: Any, descriptor: PredictorDescriptor) -> None:
        self.model = model
        self.descriptor = descriptor

    def predict(self, frame: Frame) -> Outputs:
        """
        Answer every row of *frame*; where ``response.one_request_per_call``, the rows of one request only.

        Raises:
            ModelFailed: The model raised, or its output is not one answer per row.
        """
        rows = len(frame)
        x = self._model_input(frame)
        response, classes = self.descriptor.response, self.descriptor.classes
        if response.one_request_per_call:
            return self._returned_as_is(x, rows)
        predictions = response.shown(per_row(self._call(self.model.predict, x), rows))
        if not self.descriptor.proba:
            return Outputs(predictions=predictions)
        probabilities = probabilities_per_row(self._call(self.model.predict_proba, x), rows)
        matrix = matrix_of(probabilities, classes)
        return Outputs(predictions=predictions, probabilities=probabilities, matrix=matrix)

    def _returned_as_is(self, x: Any, rows: int) -> Outputs:
        response, classes = self.descriptor.response, self.descriptor.classes
        returned = plain(self._call(self.model.predict, x))
        body = response.body(returned, proba=False)
        predictions = response.shown(divide(returned, rows))
        if response.validated and body is None and len(predictions) != rows:
            raise ModelFailed(f"The model answered {len(predictions)} rows for {rows}.")
        if not self.descriptor.proba:
            return Outputs(predictions=predictions, body=body)
        returned_proba = plain(self._call(self.model.predict_proba, x))
        proba_body, rest = response.body(returned_proba, proba=True), Outputs(predictions=predictions, body=body)
        try:
            probabilities = probabilities_per_row(returned_proba, rows)
            matrix = matrix_of(probabilities, classes if response.validated else None)
        except ModelFailed:
            if proba_body is None:
                raise
            return replace(rest, proba_body=proba_body)
        return replace(rest, probabilities=probabilities, matrix=matrix, proba_body=proba_body)

    def close(self) -> None:
        """Close the model where it can be closed; an error in that becomes a warning."""
        close = getattr(self.model, "close", None)
        if close is None:
            return
        try:
            self._call(close)
        except ModelFailed as error:
            warnings.warn(f"Closing {self.descriptor.class_name}: {error}", RuntimeWarning, stacklevel=2)

    def _model_input(self, frame: Frame) -> Any:
        if self.descriptor.dataframe:
            import pandas as pd  # noqa: PLC0415 - only for models that ask for it

            return pd.DataFrame(dict(zip(frame.shape.names, frame.columns(), strict=True)))
        return frame.matrix

    @staticmethod
    def _call(function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except MendelError:
            raise
        except Exception as error:
            text = str(error) or "without a message"
            raise ModelFailed(f"The model raised {type(error).__name__}: {text[:500]}") from error
