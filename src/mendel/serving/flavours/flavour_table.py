"""The flavours that servers load. To add a flavour, add it here."""

from __future__ import annotations

from typing import Final

from mendel.errors import ModelNotLoadable, Unsupported
from mendel.serving.flavours.flavour import Flavour
from mendel.serving.flavours.project_classifier import ProjectFlavour
from mendel.serving.flavours.sklearn_estimator import SklearnFlavour
from mendel.serving.mlmodel import Mlmodel

FLAVOURS: Final[tuple[Flavour, ...]] = (ProjectFlavour(), SklearnFlavour())
"""Of the flavours that an artefact has, the first here loads it."""


def flavour_of(mlmodel: Mlmodel) -> Flavour:
    """
    The flavour that loads an artefact.

    Raises:
        ModelNotLoadable: It has none of the table.
    """
    for flavour in FLAVOURS:
        if flavour.name in mlmodel.flavors:
            return flavour
    names = ", ".join(sorted(set(mlmodel.flavors) - {"python_function"})) or "none"
    raise ModelNotLoadable(
        f"The artefact has the flavours {names}; servers load {' and '.join(flavour.name for flavour in FLAVOURS)}.",
        remedy="Register the model as a scikit-learn estimator, or wrap it in the predictor of a project.",
    )


def flavour_for(model: object) -> Flavour:
    """
    The flavour that writes *model*.

    Raises:
        Unsupported: No flavour of the table recognises it.
    """
    for flavour in FLAVOURS:
        if flavour.recognises(model):
            return flavour
    kind = model if isinstance(model, type) else type(model)
    raise Unsupported(
        f"A {kind.__module__}.{kind.__qualname__} cannot be registered by itself.",
        remedy="Supported are fitted scikit-learn-compatible estimators (fit, predict, get_params); "
        "any other predictor is served as a project.",
    )
