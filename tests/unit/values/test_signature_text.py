"""The text of a signature, as MLflow prints it."""

from __future__ import annotations

import mlflow.models
import numpy as np
import pandas as pd
import pytest

from mendel.values import Signature

FRAME = pd.DataFrame({"age": [31.0, 42.0], "city": ["Ulm", "Bonn"], "at": pd.to_datetime(["2024-01-01", "2024-01-02"])})


@pytest.mark.parametrize(
    "signature",
    [
        mlflow.models.infer_signature(FRAME),
        mlflow.models.infer_signature(FRAME, np.array([0, 1])),
        mlflow.models.infer_signature(FRAME, pd.DataFrame({"label": ["a", "b"]})),
        mlflow.models.infer_signature(np.zeros((2, 3)), np.zeros((2, 1))),
        mlflow.models.infer_signature({"left": np.zeros((2, 3)), "right": np.zeros(2)}),
        mlflow.models.infer_signature(FRAME, params={"threshold": 0.5, "names": ["a", "b"], "mode": "fast"}),
    ],
)
def test_the_text_is_mlflows(signature):
    """Columns, tensors, outputs and params read as MLflow's own text does, and the mapping comes back unchanged."""
    ours = Signature.from_mlflow(signature.to_dict())
    assert str(ours) == str(signature)
    assert ours.to_mlflow() == signature.to_dict()
