"""Requests in the form of each door, with the right answers to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from training import INPUT, Fitted

from mendel.protos import modelops_pb2
from mendel.protos import open_inference_pb2 as v2

CLEAR = 0.2
"""No row is nearer to the decision boundary, because peers fit the same models with other libraries."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """The rows of one request, and the classes that the model itself gives for them."""

    rows: NDArray[np.float64]
    classes: tuple[int, ...]

    @cached_property
    def json(self) -> bytes:
        """The body of the Open Inference Protocol over REST."""
        values = self.rows.ravel().tolist()
        tensor = {"name": INPUT, "shape": list(self.rows.shape), "datatype": "FP64", "data": values}
        return json.dumps({"inputs": [tensor]}).encode()

    @cached_property
    def plain(self) -> bytes:
        """The body of Mendel's plain REST routes, and the prompt of ``ModelOps.Infer``."""
        return json.dumps({"instances": self.rows.tolist()}).encode()

    def message(self, model: str) -> bytes:
        """The message of ``ModelInfer``."""
        request = v2.ModelInferRequest(model_name=model)
        tensor = request.inputs.add(name=INPUT, datatype="FP64", shape=self.rows.shape)
        tensor.contents.fp64_contents.extend(self.rows.ravel().tolist())
        return request.SerializeToString()

    def prompt(self, model: str) -> bytes:
        """The message of ``ModelOps.Infer``."""
        return modelops_pb2.InferenceRequest(model_name=model, prompt=self.plain.decode()).SerializeToString()


def questions(fitted: Fitted, *, rows: int, count: int) -> list[Question]:
    """Make *count* different requests of *rows* rows within the range of the training rows."""
    rng = np.random.default_rng(1)
    clear = np.flatnonzero(abs(fitted.model.predict_proba(fitted.rows * 0.99)[:, 1] - 0.5) > CLEAR)
    made = []
    for _ in range(count):
        chosen = fitted.rows[rng.choice(clear, rows)] * 0.99
        made.append(Question(rows=chosen, classes=tuple(fitted.model.predict(chosen).tolist())))
    return made
