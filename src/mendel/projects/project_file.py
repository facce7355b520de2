"""Find and read ``mlserver.yaml``; an unknown key is an error that names its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from mendel.errors import InvalidValue, ProjectNotFound
from mendel.projects.entities import (
    POLICY_SECTIONS,
    Api,
    Build,
    Classifier,
    DeploymentSection,
    Observability,
    PredictorSection,
    Project,
    RepositorySection,
    ServerSection,
    project_path,
)
from mendel.projects.yaml_document import Place, YamlDocument, read_document
from mendel.values import ModelName, unknown_key_message

T = TypeVar("T")
FILE, LEGACY_FILE = "mlserver.yaml", "classifier.yaml"
_SHARED: dict[str, type] = {"server": ServerSection, "api": Api, "observability": Observability, "build": Build}
_OF_CLASSIFIER = ("classifier", "predictor", *_SHARED, *POLICY_SECTIONS)
_OF_SINGLE = (*_OF_CLASSIFIER, "repository", "deployment")
_OF_MULTI = ("classifiers", "default_classifier", "repository", "deployment", *_SHARED)
_RETIRED: tuple[Place, ...] = (("classifier", "version"), ("api", "version"), ("model",))
_NAME_KEYS = ("name", "description", "repository")
_FAULT_PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`")


def find_project_file(path: Path) -> Path:
    """
    Find the project file for *path*.

    A *path* that is a file is the project file. Otherwise the directory *path* is searched, then its parents up to the
    root of the git repository.

    Raises:
        ProjectNotFound: *path* does not exist, or no project file was found; the message says where.
    """
    path = path.absolute()
    if path.is_file():
        return path
    if not path.is_dir():
        raise ProjectNotFound(
            f"The path {path} does not exist.",
            remedy="Give the directory of a project, or the path of its mlserver.yaml.",
        )
    searched = list(_up_to_git_root(path))
    for directory in searched:
        for name in (FILE, LEGACY_FILE):
            if (directory / name).is_file():
                return directory / name
    above = f", nor do its parent directories up to {searched[-1]}" if len(searched) > 1 else ""
    raise ProjectNotFound(
        f"The directory {path} contains no {FILE}{above}.", remedy="Give the project's directory with --path."
    )


def load_project(path: Path) -> Project:
    """
    Read the project at *path*: its file, its directory, or a path below its directory.

    Raises:
        ProjectNotFound: No project file was found.
        InvalidProject: The project file is invalid; the message names the line, and the nearest known key for an
            unknown key.
    """
    file = find_project_file(path)
    document = read_document(file)
    hints: tuple[str, ...] = ()
    if file.name == LEGACY_FILE:
        document, retired = without_retired_keys(document)
        hints = (
            f"{LEGACY_FILE} has the older format; convert the file to {FILE} with 'mendel migrate mlserver'.",
            *retired,
        )
    multi = "classifiers" in document.tree
    _refuse_unknown(document, document.tree, _OF_MULTI if multi else _OF_SINGLE, ())
    classifiers = tuple(_classifiers(document) if multi else [_classifier(document, (), None, {})])
    default = document.tree.get("default_classifier")
    if default is not None and default not in [classifier.name for classifier in classifiers]:
        known = ", ".join(classifier.name for classifier in classifiers)
        message = f"default_classifier: the project has no classifier {default!r}."
        raise document.error(message, ("default_classifier",), remedy=f"Choose one of: {known}.")
    return Project(
        root=file.parent,
        file=file,
        repository=_section(document, RepositorySection, document.tree.get("repository"), ("repository",)),
        classifiers=classifiers,
        multi=multi,
        default_classifier=None if default is None else ModelName(default),
        deployment=_section(document, DeploymentSection, document.tree.get("deployment"), ("deployment",)),
        hints=hints,
    )


def _up_to_git_root(directory: Path) -> Iterator[Path]:
    chain = [directory, *directory.parents]
    root = next((place for place in chain if (place / ".git").exists()), directory)
    yield from chain[: chain.index(root) + 1]


def without_retired_keys(document: YamlDocument) -> tuple[YamlDocument, list[str]]:
    """Remove the keys of the older format that Mendel no longer reads; give a sentence for each removed key."""
    tree = {key: dict(body) if isinstance(body, Mapping) else body for key, body in document.tree.items()}
    hints = []
    for place in _RETIRED:
        within = tree if len(place) == 1 else tree.get(place[0])
        if isinstance(within, dict) and place[-1] in within:
            del within[place[-1]]
            hints.append(f"{'.'.join(place)} is ignored, because release tags and the registry number the versions.")
    return YamlDocument(path=document.path, tree=tree, lines=document.lines), hints


def _classifiers(document: YamlDocument) -> Iterator[Classifier]:
    sections: Mapping[Any, Any] = _mapping(document, document.tree["classifiers"], ("classifiers",))
    if not sections:
        raise document.error("classifiers: the section is empty; add at least one classifier.", ("classifiers",))
    shared = {name: document.tree[name] for name in _SHARED if name in document.tree}
    for name, body in shared.items():
        _section(document, _SHARED[name], _without_order_file(_mapping(document, body, (name,))), (name,))
    for name, body in sections.items():
        if not isinstance(name, str):
            message = f"classifiers: the name {name!r} is not text: YAML reads the name as a {type(name).__name__}."
            raise document.error(message, ("classifiers",), remedy="Write the name in quotes.")
        place = ("classifiers", name)
        _refuse_unknown(document, _mapping(document, body, place), _OF_CLASSIFIER, place)
        yield _classifier(document, place, name, shared)


def _without_order_file(api: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in api.items() if not (key == "feature_order" and isinstance(value, str))}


def _classifier(document: YamlDocument, place: Place, key: str | None, shared: Mapping[str, Any]) -> Classifier:
    body: Mapping[str, Any] = document.tree
    for part in place:
        body = body[part]
    naming = _mapping(document, body.get("classifier"), (*place, "classifier"))
    _refuse_unknown(document, naming, _NAME_KEYS, (*place, "classifier"))
    api = _merged(document, shared.get("api"), body.get("api"), (*place, "api"))
    order_file = api.get("feature_order") if isinstance(api.get("feature_order"), str) else None
    if order_file is not None:
        api = {**api, "feature_order": _feature_order(document, order_file, (*place, "api", "feature_order"))}

    def shared_section(kind: type[T], name: str) -> T:
        return _section(
            document, kind, _merged(document, shared.get(name), body.get(name), (*place, name)), (*place, name)
        )

    if body.get("predictor") is None:
        raise document.error(
            f"{'.'.join((*place, 'predictor'))} is missing.",
            place,
            remedy="Add the section with the keys module and class_name.",
        )
    predictor = _section(document, PredictorSection, body["predictor"], (*place, "predictor"))
    build = shared_section(Build, "build")
    if build.isolation == "process" and predictor.backend == "thread":
        raise document.error(
            "build.isolation is process, but predictor.backend is thread, which runs the predictor in Mendel's own "
            "environment.",
            (*place, "predictor", "backend"),
            remedy="Set build.isolation to shared, or remove predictor.backend.",
        )
    return Classifier(
        name=_classifier_name(document, naming, place, key),
        description=_text(document, naming, "description", place) or "",
        repository=_text(document, naming, "repository", place),
        predictor=predictor,
        api=_section(document, Api, api, (*place, "api")),
        feature_order_file=order_file,
        server=shared_section(ServerSection, "server"),
        observability=shared_section(Observability, "observability"),
        build=build,
        **{name: dict(_mapping(document, body.get(name), (*place, name))) for name in POLICY_SECTIONS},
    )


def _classifier_name(document: YamlDocument, naming: Mapping[str, Any], place: Place, key: str | None) -> ModelName:
    name = naming.get("name", key)
    if name is None:
        raise document.error(
            "classifier.name is missing.", (*place, "classifier"), remedy="Write classifier: {name: ...}."
        )
    if key is not None and name != key:
        message = f"classifier.name is {name!r}, but the section is named {key!r}."
        remedy = f"Remove classifier.name, or set it to {key!r}."
        raise document.error(message, (*place, "classifier", "name"), remedy=remedy)
    try:
        return ModelName(name)
    except InvalidValue as error:
        raise document.error(error.message, (*place, "classifier", "name"), remedy=error.remedy) from error


def _text(document: YamlDocument, naming: Mapping[str, Any], key: str, place: Place) -> str | None:
    value = naming.get(key)
    if value is not None and not isinstance(value, str):
        raise document.error(f"classifier.{key}: {value!r} is not text.", (*place, "classifier", key))
    return value


def _feature_order(document: YamlDocument, named: str, place: Place) -> list[str]:
    relative = project_path(named)
    if relative is None:
        raise document.error(f"api.feature_order {named!r} is not a path inside the project directory.", place)
    try:
        order = json.loads((document.path.parent / relative).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        remedy = "Give a list, or the path of a JSON array of feature names."
        raise document.error(
            f"the file {named!r} in api.feature_order cannot be read: {error}.", place, remedy=remedy
        ) from error
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise document.error(f"the file {named!r} in api.feature_order is not a JSON array of feature names.", place)
    return order


def _merged(document: YamlDocument, under: Any, over: Any, place: Place) -> dict[str, Any]:
    """Merge a classifier's own keys over the keys shared by all classifiers, nested mappings included."""
    below, above = _mapping(document, under, place[-1:]), _mapping(document, over, place)
    both = {key for key in below if isinstance(below[key], Mapping) and isinstance(above.get(key), Mapping)}
    return {**below, **above, **{key: _merged(document, below[key], above[key], (*place, key)) for key in both}}


def _mapping(document: YamlDocument, value: Any, place: Place) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise document.error(f"{'.'.join(place)}: {value!r} is not a mapping of keys to values.", place)
    return value


def _refuse_unknown(document: YamlDocument, body: Mapping[str, Any], known: tuple[str, ...], place: Place) -> None:
    for key in body:
        if key not in known:
            at = ".".join(place) or document.path.name
            raise document.error(unknown_key_message(str(key), list(known), at), (*place, str(key)))


def _section(document: YamlDocument, kind: type[T], body: Any, place: Place) -> T:
    tree = _mapping(document, body, place)
    _refuse_unknown_in(document, kind, tree, place)
    try:
        return msgspec.convert({key: value for key, value in tree.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        found = _FAULT_PLACE.search(str(error))
        inner = (*place, *re.findall(r"[^.\[\]]+", found.group(1))) if found else place
        sentence = _FAULT_PLACE.sub("", str(error))
        raise document.error(f"{'.'.join(inner)}: {sentence}.", inner) from error
    except InvalidValue as error:
        raise document.error(f"{'.'.join(place)}: {error.message}", place, remedy=error.remedy) from error


def _refuse_unknown_in(document: YamlDocument, kind: type, tree: Mapping[str, Any], place: Place) -> None:
    if not is_dataclass(kind):
        return
    _refuse_unknown(document, tree, tuple(field.name for field in fields(kind)), place)
    for field in fields(kind):
        value = tree.get(field.name)
        if isinstance(value, Mapping):
            _refuse_unknown_in(document, get_type_hints(kind)[field.name], value, (*place, field.name))
        if value is None and field.default is MISSING and field.default_factory is MISSING:
            raise document.error(f"{'.'.join((*place, field.name))} is missing.", place)
