"""Images that carry a registered version, and a project begun from nothing on tabular data with gaps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.shared_data import shared_data

EXAMPLES = Path(__file__).parents[3] / "examples"
DIGITS = "digits-parity"
PREDICTOR = '''
from pathlib import Path

import joblib


class Survival:
    """Whether a passenger survived."""

    input_type = "dataframe"

    def __init__(self, model):
        self._pipeline = joblib.load(Path(model))
        self.classes_ = self._pipeline.classes_

    def predict(self, rows):
        return self._pipeline.predict(rows)

    def predict_proba(self, rows):
        return self._pipeline.predict_proba(rows)
'''
TRAINING = """
import sys
import joblib
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

frame = pd.read_csv(sys.argv[1])
words = make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder(handle_unknown="ignore"))
columns = make_column_transformer((words, ["Sex", "Embarked"]), (SimpleImputer(), ["Pclass", "Age", "Fare"]))
model = make_pipeline(columns, LogisticRegression(max_iter=1000))
features = frame[["Pclass", "Sex", "Age", "Fare", "Embarked"]].astype({"Sex": object, "Embarked": object})
joblib.dump(model.fit(features, frame["Survived"]), sys.argv[2])
asked = pd.DataFrame([{"Pclass": 3, "Sex": "male", "Age": float("nan"), "Fare": 7.25, "Embarked": "S"},
                      {"Pclass": 1, "Sex": "female", "Age": 38.0, "Fare": 71.28, "Embarked": "C"}])
print(model.predict_proba(asked.astype({"Sex": object, "Embarked": object})).tolist())
"""


def _prepare(repository):
    repository.write("requirements.txt", "joblib\nnumpy\nscikit-learn\n")
    repository.change("mlserver.yaml", "predictor:\n", "build:\n  base_image: oci:.mendel/base\n\npredictor:\n")


@pytest.fixture(scope="module")
def digits(begin, tmp_path_factory):
    """The project of the digits, with one registered version, in a hub directory of its own."""
    room = tmp_path_factory.mktemp("digits")
    made = begin(EXAMPLES / "digits", room / "project", prepare=_prepare)
    made.environment = {**made.environment, "MENDEL_DIRECTORY": str(room / "hub")}
    made.ok("tag", "minor")
    prepare = [sys.executable, "prepare.py", str(room / "base.parquet"), "--rows", "500"]
    subprocess.run(prepare, cwd=made.root, check=True, timeout=100)
    made.ok("train", "--data", str(room / "base.parquet"), timeout=200)
    return made


@pytest.fixture(scope="module")
def image(digits):
    """What `mendel build` said when it built the image of that version; it is in no engine."""
    return digits.told("build", "--model", f"{DIGITS}@1", "--no-load")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_image_of_a_registered_version_answers_as_that_version(digits, podman, free_port):
    """Built from `NAME@1` it needs no hub, tells number and uuid in its answers, and is built again the same."""
    told = digits.told("build", "--model", f"{DIGITS}@1", "--load")
    uuid = digits.told("versions", DIGITS)[0]["uuid"]
    pixels = dict.fromkeys(json.loads((digits.root / "features.json").read_text()), 0.0)
    run = digits.told("run", "--model", f"{DIGITS}@1", "--port", str(free_port), "--detach")
    try:
        answer = httpx.post(f"{run['url']}/predict", json=pixels, timeout=20).raise_for_status().json()
        proba = httpx.post(f"{run['url']}/predict_proba", json=pixels, timeout=20).raise_for_status().json()
    finally:
        podman("rm", "--force", "--time=10", run["name"])
    assert str(answer["model_version"]) == "1"
    assert proba["metadata"]["model_uuid"] == uuid
    assert proba["metadata"]["image"]["digest"] == told["digest"]
    assert all(reference.rpartition(":")[2].startswith("model-1") for reference in told["references"])
    assert told["labels"]["com.mendel.model"] == f"{DIGITS}@1"
    assert digits.told("verify", told["references"][0], "--rebuild")["holds"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_image_of_a_version_and_that_of_its_release_are_two(digits, image, docker_registry):
    """The release is never pushed with a version inside, nor the version in its place: each by what it is asked for."""
    open_to_all = {"MENDEL_REGISTRY_INSECURE": docker_registry.host}
    push = ("push", "--registry", docker_registry.host)
    tag = digits.tag(DIGITS)
    assert tag in digits.refused(*push, "--classifier", tag, **open_to_all)
    (pushed,) = digits.told(*push, "--model", f"{DIGITS}@1", **open_to_all)
    assert pushed["digest"] == image["digest"]
    assert "build --model" in digits.refused(*push, "--model", f"{DIGITS}@2", **open_to_all)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_version_tells_the_image_that_delivers_it(digits, image):
    """Recorded, its tag and digest stand in the card and among the versions."""
    digits.ok("register", f"{DIGITS}@1", "--image", image["references"][0])
    (version,) = digits.told("versions", DIGITS)
    assert version["image"]["digest"] == image["digest"]
    assert version["release_tag"] == digits.tag(DIGITS)
    assert image["digest"] in digits.ok("card", f"{DIGITS}@1")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_project_begun_from_nothing_answers_about_words_and_gaps(begin, podman, tmp_path, surroundings, free_port):
    """`init`, a model on strings and missing ages, a frame for the predictor: built, run, and as right as directly."""
    titanic = shared_data("titanic.csv")
    start, said = tmp_path / "start", []

    def fill(repository):
        repository.ok("init", "--classifier", "titanic", "--predictor-class", "Survival", "--ci", "none")
        repository.write("predictor.py", PREDICTOR)
        (repository.root / "models").mkdir()
        train = [sys.executable, "-c", TRAINING, str(titanic), "models/survival.joblib"]
        done = subprocess.run(train, cwd=repository.root, check=True, timeout=100, capture_output=True, text=True)
        said.extend(json.loads(done.stdout))
        text = (repository.root / "mlserver.yaml").read_text()
        repository.write("mlserver.yaml", _configured(text))
        repository.write("requirements.txt", "joblib\nnumpy\npandas\nscikit-learn\n")

    start.mkdir()
    project = begin(start, tmp_path / "titanic", prepare=fill)
    project.ok("tag", "major")
    assert project.told("build", "--load")["verified"]
    asked = [
        {"Pclass": 3, "Sex": "male", "Age": None, "Fare": 7.25, "Embarked": "S"},
        {"Pclass": 1, "Sex": "female", "Age": 38.0, "Fare": 71.28, "Embarked": "C"},
    ]
    with podman.running(project, "titanic", free_port) as client:
        answer = client.post("/predict_proba", json={"records": asked})
        assert answer.status_code == 200, answer.text
        assert answer.json()["probabilities"] == said
    project.ok("clean", "--yes")


def _configured(text):
    """The project file of `init`, with the model, the base and the order of columns."""
    import yaml  # noqa: PLC0415 - here alone

    settings = yaml.safe_load(text)
    settings["predictor"]["init_kwargs"] = {"model": "models/survival.joblib"}
    settings.setdefault("build", {})["base_image"] = "oci:.mendel/base"
    settings.setdefault("api", {})["feature_order"] = ["Pclass", "Sex", "Age", "Fare", "Embarked"]
    return yaml.safe_dump(settings, sort_keys=False)
