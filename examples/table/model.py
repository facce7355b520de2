"""The predictor that answers: built once per worker on the directory of a model version."""

from pathlib import Path

import joblib


class TableClassifier:
    """Wraps the fitted pipeline of a version, which fills in and encodes by itself."""

    input_type = "dataframe"

    def __init__(self, model_dir):
        self._pipeline = joblib.load(Path(model_dir) / "model.joblib")
        self.classes_ = self._pipeline.classes_

    def predict(self, X):
        return self._pipeline.predict(X)

    def predict_proba(self, X):
        return self._pipeline.predict_proba(X)
