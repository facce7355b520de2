"""A small fitted model of every kind that a flavour takes, with its own answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mendel.projects import Project
from mendel.serving import TrainedClassifier
from mendel.values import Table

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32).astype(np.float64)
TABLE = Table({name: X[:, place] for place, name in enumerate("abc")})
POSITIVE = (X[:, 0] > 0).astype(int)
NAMED = np.where(POSITIVE, "yes", "no")
_P = 1 / (1 + np.exp(-X[:, 0]))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """
    A model of one flavour.

    Attributes:
        answers: What its owner gets for X; ``probabilities`` likewise, None where there are none.
        package: What loading it needs beside the base install, and the extra that brings it.
        broken: A model that cannot be loaded, at the latest when its files are damaged.
        told: Whether the artefact itself tells the classes.
        written_with: The versions that the artefact must tell.
    """

    flavour: str
    model: Any
    answers: list[Any]
    probabilities: Any = None
    classes: tuple[Any, ...] | None = None
    package: tuple[str, str] | None = None
    broken: Any = None
    told: bool = False
    written_with: dict[str, str] | None = None
    project: Project | None = None


def package(name: str, why: str = "") -> Any:
    """Import an optional package of the tests, or skip and say how to install it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            name, reason=why or f"{name} is not installed: pip install {name}", exc_type=ImportError
        )


def estimator() -> Sample:
    fitted = LogisticRegression().fit(X, NAMED)
    return Sample(
        flavour="sklearn",
        model=fitted,
        answers=fitted.predict(X).tolist(),
        probabilities=fitted.predict_proba(X),
        classes=("no", "yes"),
        broken=LogisticRegression(),
        written_with={"scikit-learn": version("scikit-learn")},
    )


def project_classifier() -> Sample:
    """The classifier ``threshold`` of the project that the test brings along."""
    return Sample(
        flavour="mendel",
        model=TrainedClassifier(name="threshold", classes=("no", "yes")),
        answers=NAMED.tolist(),
        probabilities=np.column_stack([1 - _P, _P]),
        classes=("no", "yes"),
        broken=TrainedClassifier(name="broken"),
        told=True,
    )


def xgboost_booster() -> Sample:
    xgboost = package("xgboost", "xgboost is not installed: pip install xgboost-cpu")
    booster = xgboost.train(
        {"objective": "binary:logistic", "seed": 1}, xgboost.DMatrix(X, label=POSITIVE, feature_names=list("abc")), 5
    )
    answers = booster.predict(xgboost.DMatrix(X, feature_names=list("abc"))).tolist()
    return _native(xgboost, "xgboost", booster, answers)


def xgboost_classifier() -> Sample:
    xgboost = package("xgboost", "xgboost is not installed: pip install xgboost-cpu")
    return _classifier(xgboost, "xgboost", xgboost.XGBClassifier(n_estimators=5).fit(X, POSITIVE))


def lightgbm_booster() -> Sample:
    lightgbm = package("lightgbm")
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "min_data_in_leaf": 2}, lightgbm.Dataset(X, POSITIVE), 5
    )
    return _native(lightgbm, "lightgbm", booster, booster.predict(X).tolist())


def lightgbm_classifier() -> Sample:
    lightgbm = package("lightgbm")
    fitted = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1).fit(X, NAMED)
    return _classifier(lightgbm, "lightgbm", fitted)


def catboost_classifier() -> Sample:
    catboost = package("catboost")
    settings = {"iterations": 5, "verbose": False, "allow_writing_files": False}
    return _classifier(catboost, "catboost", catboost.CatBoostClassifier(**settings).fit(X, NAMED))


def catboost_regressor() -> Sample:
    catboost = package("catboost")
    fitted = catboost.CatBoostRegressor(iterations=5, verbose=False, allow_writing_files=False).fit(X, X[:, 1])
    return _native(catboost, "catboost", fitted, fitted.predict(X).tolist())


def onnx_classifier() -> Sample:
    onnx, runtime = package("onnx"), package("onnxruntime")
    node = onnx.helper.make_node(
        "LinearClassifier",
        ["rows"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        coefficients=[-1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        intercepts=[0.0, 0.0],
        classlabels_strings=["no", "yes"],
        post_transform="SOFTMAX",
    )
    floats, texts = onnx.TensorProto.FLOAT, onnx.TensorProto.STRING
    model = _graph(onnx, node, {"label": (texts, [None]), "probabilities": (floats, [None, 2])})
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"rows": X.astype(np.float32)})
    return Sample(
        flavour="onnx",
        model=model,
        answers=[str(label) for label in labels],
        probabilities=probabilities,
        classes=("no", "yes"),
        package=("onnxruntime", "onnx"),
        told=True,
        broken=model,
    )


def onnx_regressor() -> Sample:
    onnx, runtime = package("onnx"), package("onnxruntime")
    node = onnx.helper.make_node(
        "LinearRegressor", ["rows"], ["answer"], domain="ai.onnx.ml", coefficients=[1.0, 2.0, 0.0], intercepts=[0.5]
    )
    model = _graph(onnx, node, {"answer": (onnx.TensorProto.FLOAT, [None, 1])})
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"rows": X.astype(np.float32)})
    return Sample(
        flavour="onnx", model=model, answers=answers[:, 0].tolist(), package=("onnxruntime", "onnx"), broken=model
    )


def torch_script() -> Sample:
    torch = package("torch", "torch is not installed: pip install torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and loaded all the same
        scripted = torch.jit.trace(_linear(torch), torch.zeros(1, 3))
    return _torch(torch, scripted)


def torch_exported() -> Sample:
    torch = package("torch", "torch is not installed: pip install torch")
    rows = torch.export.Dim("rows", min=1)
    return _torch(torch, torch.export.export(_linear(torch), (torch.zeros(4, 3),), dynamic_shapes=({0: rows},)))


def python_model() -> Sample:
    pyfunc = package("mlflow.pyfunc", "MLflow is not installed: pip install 'mendel[pyfunc]'")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow asks for type hints

        class Doubling(pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                return np.asarray(model_input)[:, 0] * 2

    return Sample(
        flavour="python_function",
        model=Doubling(),
        answers=(X[:, 0] * 2).tolist(),
        package=("mlflow.pyfunc", "pyfunc"),
        broken=Doubling(),
        written_with={"cloudpickle": version("cloudpickle")},
    )


SAMPLES: dict[str, Callable[[], Sample]] = {
    make.__name__: make
    for make in (
        estimator,
        project_classifier,
        xgboost_booster,
        xgboost_classifier,
        lightgbm_booster,
        lightgbm_classifier,
        catboost_classifier,
        catboost_regressor,
        onnx_classifier,
        onnx_regressor,
        torch_script,
        torch_exported,
        python_model,
    )
}
"""By name; each skips the test where its package is absent."""


def _classifier(module: Any, name: str, fitted: Any) -> Sample:
    return Sample(
        flavour=name,
        model=fitted,
        answers=np.asarray(fitted.predict(X)).tolist(),
        probabilities=fitted.predict_proba(X),
        classes=tuple(np.asarray(fitted.classes_).tolist()),
        package=(name, name),
        broken=fitted,
        written_with={name: module.__version__},
    )


def _native(module: Any, name: str, model: Any, answers: list[Any]) -> Sample:
    return Sample(
        flavour=name,
        model=model,
        answers=answers,
        package=(name, name),
        broken=model,
        written_with={name: module.__version__},
    )


def _graph(onnx: Any, node: Any, outputs: dict[str, Any]) -> Any:
    """A model of one *node* over rows of three features."""
    given = onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [None, 3])
    shown = [onnx.helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()]
    versions = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    graph = onnx.helper.make_graph([node], "rows", [given], shown)
    return onnx.helper.make_model(graph, opset_imports=versions, ir_version=8)


def _linear(torch: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Sigmoid()).eval()


def _torch(torch: Any, model: Any) -> Sample:
    module = model.module() if hasattr(model, "module") else model
    with torch.no_grad():
        answers = module(torch.from_numpy(X.astype(np.float32))).numpy()[:, 0].tolist()
    return Sample(
        flavour="pytorch",
        model=model,
        answers=answers,
        package=("torch", "pytorch"),
        broken=model,
        written_with={"torch": str(torch.__version__)},
    )
