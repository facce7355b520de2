"""What a server tells the process of a model to load, and the descriptor that follows from what the process found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mendel.projects import Project
from mendel.serving.artifact_loading import contract_of
from mendel.serving.flavours.flavour_table import flavour_of
from mendel.serving.flavours.pickled_model import pickled_code
from mendel.serving.flavours.project_classifier import (
    ProjectFlavour,
    building,
    hosted_classifier,
    model_dir,
    project_descriptor,
)
from mendel.serving.flavours.sklearn_estimator import SklearnFlavour, pickle_file
from mendel.serving.input_contract import InputContract
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.model_program import packed_kwargs
from mendel.serving.packed_code import packed_root
from mendel.serving.predictor import PredictorDescriptor, classes_from
from mendel.values import to_builtins


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedModel:
    """
    A model that a process of its own loads with :mod:`mendel.serving.model_program`.

    Attributes:
        directory: The directory of the artefact, whose digest was checked.
        project: The project whose code the model may need; None when this server hosts no project.
    """

    directory: Path
    mlmodel: Mlmodel
    project: Project | None

    def order(self) -> dict[str, Any]:
        """
        Give what the process needs to load the model, as JSON values.

        Raises:
            ModelNotLoadable: The artefact has no known flavour, or needs the code of a project that is not hosted here.
        """
        flavour = flavour_of(self.mlmodel).name
        signature = self.mlmodel.signature
        code = packed_root(self.directory, self.mlmodel)
        common = {
            "names": [] if signature is None else list(signature.names),
            "path": [] if code is None else [str(code)],
            "doing": "Loading the model",
        }
        if flavour == ProjectFlavour.name:
            return {**common, **self._class_order()}
        if flavour == SklearnFlavour.name:
            file, form = pickle_file(self.directory, self.mlmodel)
            inside, written = pickled_code(self.mlmodel.flavors[flavour], self.mlmodel)
            doing = {"doing": "Unpickling the model"}
            pickled = {"kind": "pickle", "file": str(file), "form": form, "inside": inside, "python": written}
            return {**common, **doing, **pickled}
        return {**common, "kind": "mendel", "directory": str(self.directory)}

    def _class_order(self) -> dict[str, Any]:
        project, classifier = hosted_classifier(self.mlmodel, self.project)
        predictor, api = classifier.predictor, classifier.api
        directory = model_dir(self.directory, self.mlmodel)
        return {
            "kind": "class",
            "doing": building(classifier),
            "path": [str(project.root.resolve())],
            "module": predictor.import_name,
            "class_name": predictor.class_name,
            "kwargs": packed_kwargs(predictor.kwargs_in(project.root)),
            "model_dir": None if directory is None else str(directory),
            "width": api.max_concurrent_predictions if api.thread_safe_predict else 1,
        }

    def descriptor(self, found: Mapping[str, Any]) -> PredictorDescriptor:
        """Describe the predictor from the facts *found* that the process reported."""
        described = self._described(found)
        contract = contract_of(
            self.directory,
            self.mlmodel,
            names=lambda: found["given_names"],
            arrays_alike=lambda: bool(found["arrays_alike"]),
        )
        return described.with_contract(contract, _names(found))

    def _described(self, found: Mapping[str, Any]) -> PredictorDescriptor:
        classes, proba = classes_from(found["classes"]), bool(found["proba"])
        if ProjectFlavour.name in self.mlmodel.flavors:
            _, classifier = hosted_classifier(self.mlmodel, self.project)
            dataframe = bool(found["dataframe"])
            return project_descriptor(classifier, self.mlmodel, fitted=classes, dataframe=dataframe, proba=proba)
        return PredictorDescriptor(
            class_name=found["class_name"],
            module=found["module"],
            classes=classes,
            dataframe=found["dataframe"],
            proba=proba,
            width=found["width"],
        )

    def input_form(self, described: PredictorDescriptor, found: Mapping[str, Any]) -> dict[str, Any]:
        """Give what the process needs to convert rows to the input of its model *described*, as JSON values."""
        return {
            "contract": None if described.contract is None else _contract_form(described.contract),
            "dataframe": bool(described.dataframe),
            "forget_names": self._described(found).forgets_names(described.contract, _names(found)),
        }


def _contract_form(contract: InputContract) -> dict[str, Any]:
    columns = [{**to_builtins(column), "held_as": column.held_as} for column in contract.columns]
    return {"columns": columns, "array_dtype": contract.array_dtype}


def _names(found: Mapping[str, Any]) -> tuple[str, ...] | None:
    return None if found["names"] is None else tuple(found["names"])
