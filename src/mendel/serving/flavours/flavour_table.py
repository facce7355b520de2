"""The flavours that servers load. To add a flavour, add it here."""

from __future__ import annotations

from typing import Final

from mendel.errors import ModelNotLoadable, Unsupported
from mendel.serving.flavours.flavour import Flavour
from mendel.serving.flavours.project_classifier import ProjectFlavour
from mendel.serving.flavours.sklearn_estimator import SklearnFlavour
from mendel.serving.mlmodel import Mlmodel

FLAVOURS: Final[tuple[Flavour, ...]] = (ProjectFlavour(), SklearnFlavour())
"""All flavours; if an artefact has several, the first in this order loads the artefact."""


def flavour_of(mlmodel: Mlmodel) -> Flavour:
    """
    Give the flavour that loads an artefact.

    Raises:
        ModelNotLoadable: The artefact has no flavour in :data:`FLAVOURS`.
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
    Give the flavour that writes *model*.

    Raises:
        Unsupported: No flavour in :data:`FLAVOURS` recognises the model.
    """
    for flavour in FLAVOURS:
        if flavour.recognises(model):
            return flavour
    kind = model if isinstance(model, type) else type(model)
    raise Unsupported(
        f"An object of type {kind.__module__}.{kind.__qualname__} cannot be registered as a model.",
        remedy="Give a fitted scikit-learn-compatible estimator (fit, predict, get_params), "
        "or serve the predictor as a project.",
    )
