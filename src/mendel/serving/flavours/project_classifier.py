"""The flavour ``mendel``: a project's classifier; the artefact holds its trained files, and the code of its release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mendel.errors import ModelNotLoadable
from mendel.projects import Classifier, Project
from mendel.serving.carried_project import carry_project
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.model_program import built
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
        files: The files of the project that the artefact shall contain, by their paths in the project; without files a
            server must host the project.
        locked: Whether the training ran in the environment of the project's lock.
    """

    name: str
    task: str = "classification"
    classes: tuple[Any, ...] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    locked: bool = False


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
        """Give the ``MLmodel`` section, and copy the project's files; training has written the model."""
        section: dict[str, Any] = {"classifier": str(model.name), "task": model.task}
        if model.classes is not None:
            section["classes"] = [value.item() if isinstance(value, np.generic) else value for value in model.classes]
        if model.files:
            carry_project(model.files, directory)
            section |= {"project": True, "locked": model.locked}
        return {self.name: section}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """Give the signature and the classes; package versions are not in the ``MLmodel`` but in the lock file."""
        return ArtifactDescription(
            flavour=self.name, signature=mlmodel.signature, classes=_classes(mlmodel.flavors[self.name])
        )

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        """Import the predictor class of the classifier and create it with the arguments from mlserver.yaml."""
        project, classifier = hosted_classifier(mlmodel, project)
        with translated_load_errors(building(classifier)):
            model = _build(ProjectModules(project.root), classifier, project.root, model_dir(directory, mlmodel))
        if not callable(getattr(model, "predict", None)):
            raise ModelNotLoadable(f"The predictor class {classifier.predictor.class_name} has no method predict.")
        fitted = getattr(model, "classes_", None)
        descriptor = project_descriptor(
            classifier,
            mlmodel,
            fitted=None if fitted is None else tuple(getattr(fitted, "tolist", lambda: fitted)()),
            dataframe=getattr(model, "input_type", None) == "dataframe",
            proba=callable(getattr(model, "predict_proba", None)),
        )
        return Predictor(model, descriptor)


def hosted_classifier(mlmodel: Mlmodel, project: Project | None) -> tuple[Project, Classifier]:
    """
    Give the project and the classifier whose code an artefact needs.

    Raises:
        ModelNotLoadable: This server does not host the project.
    """
    name = mlmodel.flavors[ProjectFlavour.name].get("classifier")
    if project is None or name not in project.names:
        hosted = "hosts no project" if project is None else f"hosts {', '.join(project.names)}"
        raise ModelNotLoadable(
            f"The artefact needs the code of classifier {name!r}; this server {hosted}.",
            remedy="Start the server in the directory of that project, run its image, or train the version again.",
        )
    return project, project.classifier(name)


def building(classifier: Classifier) -> str:
    """Give the subject of the messages about a predictor that cannot be created."""
    return f"Building classifier {str(classifier.name)!r}"


def model_dir(directory: Path, mlmodel: Mlmodel) -> Path | None:
    """Give the argument ``model_dir`` of the predictor; None keeps the value of mlserver.yaml."""
    return None if mlmodel.flavors[ProjectFlavour.name].get("unregistered") else directory


def _classes(section: Mapping[str, Any]) -> tuple[Any, ...] | None:
    classes = section.get("classes")
    return tuple(classes) if classes else None


def project_descriptor(
    classifier: Classifier, mlmodel: Mlmodel, *, fitted: tuple[Any, ...] | None, dataframe: bool, proba: bool
) -> PredictorDescriptor:
    """
    Describe the predictor of *classifier*.

    Args:
        fitted: The attribute ``classes_`` of the predictor; None without it.
        dataframe: Whether the predictor asks for data frames.
        proba: Whether the predictor has a method ``predict_proba``.
    """
    api = classifier.api
    return PredictorDescriptor(
        class_name=classifier.predictor.class_name,
        module=classifier.predictor.import_name,
        classes=_classes(mlmodel.flavors[ProjectFlavour.name]) or fitted,
        dataframe=dataframe,
        width=api.max_concurrent_predictions if api.thread_safe_predict else 1,
        order=api.feature_order,
        proba=proba,
        endpoints=frozenset(name for name in ("predict", "predict_proba") if getattr(api.endpoints, name)),
        adapter=api.adapter,
        response=ResponseFormat(
            format=api.response_format, validated=api.response_validation, values_only=api.extract_values
        ),
    )


def _build(modules: ProjectModules, classifier: Classifier, root: Path, directory: Path | None) -> Any:
    """Create the predictor; *directory* replaces the ``model_dir`` of mlserver.yaml, None keeps that value."""
    predictor = classifier.predictor
    module = modules.load(predictor.import_name)
    with modules.opened():
        given = None if directory is None else str(directory)
        return built(module, predictor.class_name, predictor.kwargs_in(root), given)
