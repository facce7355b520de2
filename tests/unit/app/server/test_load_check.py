"""What the build of an image asks of the predictor in the image."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mendel.app.server.load_check import main

FILE = "classifier: {name: churn}\npredictor: {module: models, class_name: Model, init_kwargs: {cutoff: 0.5}}\n"
WEIGHTS = """\
class Model:
    def __init__(self, model_dir, cutoff):
        raise AssertionError("constructed")
    def predict(self, rows):
        return rows
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (WEIGHTS, None),
        ("print('True')\n" + WEIGHTS.replace("model_dir,", "model_dir, words,"), "failed with TypeError"),
        (WEIGHTS.replace("model_dir, cutoff", "cutoff, model_dir=None"), "AssertionError: constructed"),
        ("import nowhere_to_be_found\n" + WEIGHTS, "'nowhere_to_be_found'"),
        (WEIGHTS.replace("Model", "Other"), "has no class Model"),
    ],
    ids=["weights", "more than weights", "weights by choice", "import", "class"],
)
def test_a_release_whose_weights_are_in_the_registry_is_only_imported(tmp_path: Path, capfd, code, said):
    """The predictor is not constructed if only ``model_dir`` is missing; every other fault is told."""
    (tmp_path / "mlserver.yaml").write_text(FILE)
    (tmp_path / "models.py").write_text(code)
    assert main([str(tmp_path), "churn"]) == (said is not None)
    assert said is None or said in capfd.readouterr().err.splitlines()[-1]


def test_the_module_is_imported_by_the_python_of_the_model(tmp_path: Path, monkeypatch, capfd):
    """The class is found with ``serving.model_python``, in whose environment the predictor would run."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexport OWN=1\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "mlserver.yaml").write_text(FILE)
    (tmp_path / "models.py").write_text("import os\nos.environ['OWN']\n" + WEIGHTS)
    assert main([str(tmp_path), "churn"]) == 1
    assert "KeyError" in capfd.readouterr().err.splitlines()[-1]
    monkeypatch.setenv("MENDEL_SERVING__MODEL_PYTHON", str(python))
    assert main([str(tmp_path), "churn"]) == 0
