"""The flavours that servers load. To add a flavour, add it here."""

from __future__ import annotations

from typing import Final

from mendel.errors import ModelNotLoadable, Unsupported
from mendel.serving.flavours.catboost_model import CatboostFlavour
from mendel.serving.flavours.flavour import Flavour
from mendel.serving.flavours.lightgbm_model import LightgbmFlavour
from mendel.serving.flavours.mlflow_pyfunc import PyfuncFlavour
from mendel.serving.flavours.onnx_model import OnnxFlavour
from mendel.serving.flavours.project_classifier import ProjectFlavour
from mendel.serving.flavours.remote_model import RemoteFlavour
from mendel.serving.flavours.sklearn_estimator import SklearnFlavour
from mendel.serving.flavours.torch_model import TorchFlavour
from mendel.serving.flavours.xgboost_model import XgboostFlavour
from mendel.serving.mlmodel import Mlmodel

_NATIVE: Final = (XgboostFlavour(), LightgbmFlavour(), CatboostFlavour(), OnnxFlavour(), TorchFlavour())
_PYFUNC: Final = PyfuncFlavour()

FLAVOURS: Final[tuple[Flavour, ...]] = (
    ProjectFlavour(),
    SklearnFlavour(besides=(*_NATIVE, _PYFUNC)),
    *_NATIVE,
    _PYFUNC,
    RemoteFlavour(),
)
"""All flavours; if an artefact has several, the first in this order loads the artefact."""

_ALSO_CALLED: Final = {"pyfunc": _PYFUNC.name}
"""Names that ``flavor=`` takes beside those of :data:`FLAVOURS`."""


def flavour_of(mlmodel: Mlmodel) -> Flavour:
    """
    Give the flavour that loads an artefact.

    Raises:
        ModelNotLoadable: The artefact has no flavour in :data:`FLAVOURS`.
    """
    for flavour in FLAVOURS:
        if flavour.name in mlmodel.flavors:
            return flavour
    names = ", ".join(sorted(mlmodel.flavors)) or "none"
    raise ModelNotLoadable(
        f"The artefact has the flavours {names}; servers load {', '.join(flavour.name for flavour in FLAVOURS)}.",
        remedy="Register the fitted model with register_baseline, or wrap it in the predictor of a project.",
    )


def flavour_for(model: object, forced: str | None = None) -> Flavour:
    """
    Give the flavour that writes *model*.

    Args:
        forced: The name of a flavour that must accept *model*; None takes the flavour that recognises the model's type.

    Raises:
        Unsupported: No flavour in :data:`FLAVOURS` recognises the model, or the forced flavour does not accept it.
    """
    found = next((flavour for flavour in FLAVOURS if flavour.recognises(model)), None)
    if forced is not None:
        named = next((flavour for flavour in FLAVOURS if flavour.name == _ALSO_CALLED.get(forced, forced)), None)
        if named is not None and named.accepts(model):
            return named
        own = f"Its flavour is {found.name!r}." if found is not None else "No flavour recognises it."
        raise Unsupported(f"The model cannot have the flavour {forced!r}.", remedy=own)
    if found is not None:
        return found
    kind = model if isinstance(model, type) else type(model)
    raise Unsupported(
        f"An object of type {kind.__module__}.{kind.__qualname__} cannot be registered as a model.",
        remedy="Give a fitted scikit-learn-compatible estimator (fit, predict, get_params), a Booster of XGBoost or "
        "LightGBM, a CatBoost model, an onnx.ModelProto, a TorchScript module or exported program (a plain "
        "torch.nn.Module needs its code: use torch.jit.script or torch.export.export), or a "
        "mlflow.pyfunc.PythonModel; name other servers with mendel.RemoteModel; or serve the predictor as a project.",
    )
