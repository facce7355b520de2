"""Run with pytest in this directory."""

import joblib
from model import DigitsParity
from prepare import dataset
from training import train


def test_a_trained_version_answers(tmp_path):
    """Five hundred rows teach it to read digits it has not seen."""
    import pandas as pd

    pixels, even = dataset()
    frame = pd.DataFrame(pixels[:500]).assign(even=even[:500])
    joblib.dump(train(frame, target="even", seed=0), tmp_path / "model.joblib")
    answers = DigitsParity(tmp_path).predict(pixels[500:])
    assert (answers == even[500:]).mean() > 0.93
