"""The predictor of all three classifiers: they differ in the model they are given."""

from pathlib import Path

import joblib

from likelihood.bounds import within_bounds


class RfqLikelihood:
    """Wraps the fitted pipeline in *model_dir*: the project's own, or that of a registered version."""

    def __init__(self, model_dir):
        self._pipeline = joblib.load(Path(model_dir) / "model.joblib")
        self.classes_ = self._pipeline.classes_

    def predict(self, rows):
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]

    def predict_proba(self, rows):
        return within_bounds(self._pipeline.predict_proba(rows))
