"""The flavour ``mendel``: a project's classifier; the artefact holds its trained files, the project its code."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mendel.errors import ModelNotLoadable
from mendel.projects import Classifier, Project
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.predictor import Predictor, PredictorDescriptor
from mendel.serving.project_imports import ProjectModules
from mendel.serving.response_format import ResponseFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedClassifier:
    """
    A project's classifier whose training has written its files into the directory of the artefact.

    Attributes:
        name: The name of the classifier in mlserver.yaml.
        classes: The classes in the order of the probabilities; None reads them from the loaded predictor.
    """

    name: str
    task: str = "classification"
    classes: tuple[Any, ...] | None = None


class ProjectFlavour:
    """
    Loads a project's predictor class.

    If the class takes an argument ``model_dir``, the argument is the directory of the artefact.
    """

    name = "mendel"

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is a :class:`TrainedClassifier`."""
        return isinstance(model, TrainedClassifier)

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: TrainedClassifier) -> TrainedClassifier:
        """Give *model* unchanged, because the project's predictor class gives the answers."""
        return model

    def write(self, model: TrainedClassifier, directory: Path) -> Sections:
        """Give the ``MLmodel`` section of a classifier; write no file, because training has written them."""
        del directory
        section: dict[str, Any] = {"classifier": str(model.name), "task": model.task}
        if model.classes is not None:
            section["classes"] = [value.item() if isinstance(value, np.generic) else value for value in model.classes]
        return {self.name: section}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """Give the signature and the classes; package versions are not in the ``MLmodel`` but in the lock file."""
        return ArtifactDescription(
            flavour=self.name, signature=mlmodel.signature, classes=_classes(mlmodel.flavors[self.name])
        )

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        """Import the predictor class of the classifier and create it with the arguments from mlserver.yaml."""
        section = mlmodel.flavors[self.name]
        name = section.get("classifier")
        if project is None or name not in project.names:
            hosted = "hosts no project" if project is None else f"hosts {', '.join(project.names)}"
            raise ModelNotLoadable(
                f"The artefact needs the code of classifier {name!r}; this server {hosted}.",
                remedy="Start the server in the directory of that project, or run the project's image.",
            )
        classifier = project.classifier(name)
        model_dir = None if section.get("unregistered") else directory
        with translated_load_errors(f"Building classifier {name!r}"):
            model = _build(ProjectModules(project.root), classifier, project.root, model_dir)
        if not callable(getattr(model, "predict", None)):
            raise ModelNotLoadable(f"The predictor class {classifier.predictor.class_name} has no method predict.")
        return Predictor(model, _descriptor(model, classifier, _classes(section)))


def _classes(section: Mapping[str, Any]) -> tuple[Any, ...] | None:
    classes = section.get("classes")
    return tuple(classes) if classes else None


def _descriptor(model: Any, classifier: Classifier, classes: tuple[Any, ...] | None) -> PredictorDescriptor:
    api = classifier.api
    if classes is None and (fitted := getattr(model, "classes_", None)) is not None:
        classes = tuple(getattr(fitted, "tolist", lambda: fitted)())
    return PredictorDescriptor(
        class_name=classifier.predictor.class_name,
        module=classifier.predictor.import_name,
        classes=classes,
        dataframe=getattr(model, "input_type", None) == "dataframe",
        width=api.max_concurrent_predictions if api.thread_safe_predict else 1,
        order=api.feature_order,
        proba=callable(getattr(model, "predict_proba", None)),
        endpoints=frozenset(name for name in ("predict", "predict_proba") if getattr(api.endpoints, name)),
        adapter=api.adapter,
        response=ResponseFormat(
            format=api.response_format, validated=api.response_validation, values_only=api.extract_values
        ),
    )


def _build(modules: ProjectModules, classifier: Classifier, root: Path, model_dir: Path | None) -> Any:
    """Create the predictor; *model_dir* replaces the ``model_dir`` of mlserver.yaml, None keeps that value."""
    module = modules.load(classifier.predictor.import_name)
    kind = getattr(module, classifier.predictor.class_name, None)
    if kind is None:
        raise ModelNotLoadable(
            f"The module {classifier.predictor.module} has no class {classifier.predictor.class_name}."
        )
    kwargs = classifier.predictor.kwargs_in(root)
    if model_dir is not None and "model_dir" in inspect.signature(kind).parameters:
        kwargs["model_dir"] = str(model_dir)
    with modules.opened():
        return kind(**kwargs)
