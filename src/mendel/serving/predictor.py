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
from mendel.serving.response_format import Answering, Body
from mendel.serving.row_batches import Frame

NO_NAMES = "X does not have valid feature names"


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
class Predictor:
    """
    A loaded model behind one face: frames in, outputs out.

    Attributes:
        model: Has ``predict(X)`` and perhaps ``predict_proba(X)`` and ``close()``.
        classes: In the order of the probabilities; None where it has none or does not say.
        dataframe: X is a DataFrame with named columns, not an array.
        width: How many predict calls may run at once.
        order: The order of features where there is no signature.
        endpoints: Which of ``predict`` and ``predict_proba`` callers may ask for.
        adapter: How rows come where nothing names their features: see :class:`mendel.serving.input_codec.InputCodec`.
        answering: What becomes of the answers.
    """

    model: Any
    class_name: str
    module: str
    classes: tuple[Any, ...] | None = None
    dataframe: bool = False
    width: int = 1
    order: tuple[str, ...] | None = None
    proba: bool = False
    endpoints: frozenset[str] = frozenset({"predict", "predict_proba"})
    adapter: Literal["records", "ndarray", "auto"] = "auto"
    answering: Answering = field(default_factory=Answering)

    def predict(self, frame: Frame) -> Outputs:
        """
        Answer every row of *frame*; where ``answering.alone``, the rows of one request only.

        Raises:
            ModelFailed: The model raised, or its output is not one answer per row.
        """
        rows = len(frame)
        x = self._as_model_wants(frame)
        if self.answering.alone:
            return self._as_it_came(x, rows)
        predictions = self.answering.shown(per_row(self._call(self.model.predict, x), rows))
        if not self.proba:
            return Outputs(predictions=predictions)
        probabilities = probabilities_per_row(self._call(self.model.predict_proba, x), rows)
        matrix = matrix_of(probabilities, self.classes)
        return Outputs(predictions=predictions, probabilities=probabilities, matrix=matrix)

    def _as_it_came(self, x: Any, rows: int) -> Outputs:
        returned = plain(self._call(self.model.predict, x))
        body = self.answering.body(returned, proba=False)
        predictions = self.answering.shown(divide(returned, rows))
        if self.answering.validated and body is None and len(predictions) != rows:
            raise ModelFailed(f"The model answered {len(predictions)} rows for {rows}.")
        if not self.proba:
            return Outputs(predictions=predictions, body=body)
        told = plain(self._call(self.model.predict_proba, x))
        proba_body, rest = self.answering.body(told, proba=True), Outputs(predictions=predictions, body=body)
        try:
            probabilities = probabilities_per_row(told, rows)
            matrix = matrix_of(probabilities, self.classes if self.answering.validated else None)
        except ModelFailed:
            if proba_body is None:
                raise
            return replace(rest, proba_body=proba_body)
        return replace(rest, probabilities=probabilities, matrix=matrix, proba_body=proba_body)

    def close(self) -> None:
        """Let the model give back what it holds; a fault in that is nobody's answer and is dropped with a warning."""
        close = getattr(self.model, "close", None)
        if close is None:
            return
        try:
            self._call(close)
        except ModelFailed as error:
            warnings.warn(f"Closing {self.class_name}: {error}", RuntimeWarning, stacklevel=2)

    def _as_model_wants(self, frame: Frame) -> Any:
        if self.dataframe:
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
