"""From an artefact's directory to a predictor. Here, and in runners, is the only place where pickles are read."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mendel.errors import DigestMismatch, MendelError, ModelNotLoadable
from mendel.projects import Classifier, Project
from mendel.serving.predictor import Predictor
from mendel.serving.project_imports import ProjectModules
from mendel.serving.response_format import Answering
from mendel.values import Digest, Signature
from mendel.values.directory_trees import tree_digest


def load(directory: Path, *, digest: Digest | None, project: Project | None) -> Predictor:
    """
    Load the predictor of the artefact in *directory*.

    Args:
        digest: What the directory's content must hash to, checked before anything of it is read; None trusts it.
        project: Whose classifiers give the code of artefacts of flavour ``mendel``.

    Raises:
        DigestMismatch: The content is another.
        ModelNotLoadable: It cannot be read, its code cannot be imported, or its flavour needs an extra.
    """
    if digest is not None and (found := tree_digest(directory, exclude=("data",))) != digest:
        raise DigestMismatch(f"The artefact has digest {found}, not {digest}.", remedy="Fetch it again.")
    document = read_mlmodel(directory)
    flavors = document.get("flavors") or {}
    if "mendel" in flavors:
        return _project_predictor(directory, flavors["mendel"], project)
    if "sklearn" in flavors:
        return _sklearn_predictor(directory, flavors["sklearn"], _inputs_are_plain(document))
    names = ", ".join(sorted(set(flavors) - {"python_function"})) or "none"
    raise ModelNotLoadable(
        f"The artefact has the flavours {names}; the base install loads sklearn and project classifiers.",
        remedy="Register it as a scikit-learn estimator, or wrap it in the predictor of a project.",
    )


def read_mlmodel(directory: Path) -> dict[str, Any]:
    """The ``MLmodel`` document of an artefact."""
    path = directory / "MLmodel"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelNotLoadable(f"{path.name} of the artefact cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise ModelNotLoadable("MLmodel of the artefact is not a mapping.")
    return document


def _inputs_are_plain(document: Mapping[str, Any]) -> bool:
    signature = document.get("signature")
    if not isinstance(signature, dict):
        return True
    columns = Signature.from_mlflow(signature).inputs
    return all(column.type.numeric for column in columns)


def _sklearn_predictor(directory: Path, flavor: Mapping[str, Any], plain: bool) -> Predictor:
    model = _guarded("Unpickling the model", lambda: _unpickle(directory, flavor))
    if not callable(getattr(model, "predict", None)):
        raise ModelNotLoadable(f"The artefact holds a {type(model).__name__}, which has no predict.")
    dataframe = hasattr(model, "feature_names_in_") and (not plain or _selects_by_name(model))
    if not dataframe:
        _forget_names(model)
    classes = getattr(model, "classes_", None)
    return Predictor(
        model=model,
        class_name=type(model).__name__,
        module=type(model).__module__,
        classes=None if classes is None or getattr(classes, "ndim", 0) != 1 else tuple(classes.tolist()),
        dataframe=dataframe,
        proba=callable(getattr(model, "predict_proba", None)),
    )


def _unpickle(directory: Path, flavor: Mapping[str, Any]) -> Any:
    path = (directory / str(flavor.get("pickled_model", "model.pkl"))).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise ModelNotLoadable("The artefact names a model file outside itself.")
    match flavor.get("serialization_format", "cloudpickle"):
        case "joblib":
            import joblib  # noqa: PLC0415 - only where a model is loaded

            return joblib.load(path)
        case "cloudpickle" | "pickle":
            with path.open("rb") as file:
                return pickle.load(file)  # noqa: S301 - after the digest was checked; design.md section 8
        case "skops":
            import skops.io  # noqa: PLC0415 - only where a model is loaded

            return skops.io.load(path)
        case other:
            raise ModelNotLoadable(f"The model is serialised as {other!r}; joblib, cloudpickle and skops are known.")


def _project_predictor(directory: Path, flavor: Mapping[str, Any], project: Project | None) -> Predictor:
    name = flavor.get("classifier")
    if project is None or name not in project.names:
        what = "hosts no project" if project is None else f"hosts {', '.join(project.names)}"
        raise ModelNotLoadable(
            f"The artefact needs the code of classifier {name!r}; this server {what}.",
            remedy="Start the server in the project's directory, or run its image.",
        )
    classifier = project.classifier(name)
    modules, own = ProjectModules(project.root), None if flavor.get("unregistered") else directory
    model = _guarded(f"Building classifier {name!r}", lambda: _construct(modules, classifier, project.root, own))
    if not callable(getattr(model, "predict", None)):
        raise ModelNotLoadable(f"{classifier.predictor.class_name} has no predict.")
    api = classifier.api
    classes = flavor.get("classes") or getattr(model, "classes_", None)
    endpoints = {name for name in ("predict", "predict_proba") if getattr(api.endpoints, name)}
    return Predictor(
        model=model,
        class_name=classifier.predictor.class_name,
        module=classifier.predictor.import_name,
        classes=None if classes is None else tuple(getattr(classes, "tolist", lambda: classes)()),
        dataframe=getattr(model, "input_type", None) == "dataframe",
        width=api.max_concurrent_predictions if api.thread_safe_predict else 1,
        order=api.feature_order,
        proba=callable(getattr(model, "predict_proba", None)),
        endpoints=frozenset(endpoints),
        adapter=api.adapter,
        answering=Answering(
            format=api.response_format, validated=api.response_validation, values_only=api.extract_values
        ),
    )


def _construct(modules: ProjectModules, classifier: Classifier, root: Path, own: Path | None) -> Any:
    """The predictor, with *own*, the version's directory, for ``model_dir``; None leaves what the project says."""
    module = modules.load(classifier.predictor.import_name)
    kind = getattr(module, classifier.predictor.class_name, None)
    if kind is None:
        raise ModelNotLoadable(f"{classifier.predictor.module} has no class {classifier.predictor.class_name}.")
    kwargs = classifier.predictor.kwargs_in(root)
    if own is not None and "model_dir" in inspect.signature(kind).parameters:
        kwargs["model_dir"] = str(own)
    with modules.opened():
        return kind(**kwargs)


def _guarded(doing: str, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except MendelError:
        raise
    except Exception as error:
        raise ModelNotLoadable(f"{doing} failed with {type(error).__name__}: {error}") from error


def _selects_by_name(model: Any) -> bool:
    return any(type(part).__name__ == "ColumnTransformer" for part in _parts(model))


def _forget_names(model: Any) -> None:
    """So that scikit-learn takes arrays without a warning per call; the codec has put the columns in order."""
    for part in _parts(model):
        part.__dict__.pop("feature_names_in_", None)


def _parts(model: Any) -> list[Any]:
    """*model* and every estimator inside it, each once."""
    found: dict[int, Any] = {}
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif hasattr(part, "get_params") and hasattr(part, "__dict__") and id(part) not in found:
            found[id(part)] = part
            waiting.extend(vars(part).values())
    return list(found.values())
