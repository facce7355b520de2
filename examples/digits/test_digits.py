"""Run with pytest in this directory."""

import joblib
import pandas as pd
from model import DigitsParity
from prepare import dataset
from training import train


def test_a_trained_version_answers(tmp_path):
    """Five hundred rows teach it to read digits it has not seen."""
    pixels, even = dataset()
    frame = pd.DataFrame(pixels[:500]).assign(even=even[:500])
    joblib.dump(train(frame, target="even", seed=0), tmp_path / "model.joblib")
    answers = DigitsParity(tmp_path).predict(pixels[500:])
    wrong = (answers != even[500:]).mean()
    assert wrong < 1 / 15
