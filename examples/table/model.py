"""The predictor that answers: built once per worker on the directory of a model version."""

from pathlib import Path

import joblib
import numpy as np


class TableClassifier:
    """Wraps the fitted pipeline of a version, which fills in and encodes by itself."""

    input_type = "dataframe"

    def __init__(self, model_dir):
        self._pipeline = joblib.load(Path(model_dir) / "model.joblib")
        self.classes_ = self._pipeline.classes_

    def predict(self, rows):
        return self._pipeline.predict(rows.fillna(np.nan))

    def predict_proba(self, rows):
        return self._pipeline.predict_proba(rows.fillna(np.nan))
