"""The JSON Schema of ``mlserver.yaml``, derived from the dataclasses that the file is read into."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mendel.projects.entities import (
    Api,
    Build,
    DeploymentSection,
    Observability,
    PredictorSection,
    RepositorySection,
    ServerSection,
)
from mendel.values import render_duration

Schema = dict[str, Any]

NAME_PATTERN = "^[a-z0-9][a-z0-9_-]{0,127}$"
_DURATION = r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)\s*$"
_PLAIN: dict[type, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    timedelta: {"type": "string", "pattern": _DURATION},
    datetime: {"type": "string", "format": "date-time"},
}
# The bounds that the dataclasses check, as JSON Schema keywords.
_BOUNDS: dict[tuple[type, str], Schema] = {
    (ServerSection, "port"): {"minimum": 0, "maximum": 65535},
    (ServerSection, "workers"): {"minimum": 1},
    (PredictorSection, "module"): {"pattern": r"^(\./)?[^\W\d]\w*([./][^\W\d]\w*)*(\.py)?$"},
    (PredictorSection, "class_name"): {"pattern": r"^[^\W\d]\w*$"},
    (Api, "max_concurrent_predictions"): {"minimum": 1},
}
_SHARED: dict[str, type] = {"server": ServerSection, "api": Api, "observability": Observability, "build": Build}
_ABOUT = {
    "classifier": "The classifier's name and description.",
    "classifiers": "Several classifiers by name; all of them share the other sections of the file.",
    "default_classifier": "The classifier that `serve` and `run` use when no classifier is named.",
    "monitoring": "How drift and quality of the model are monitored.",
    "gates": "How much evidence a promotion needs.",
    "retraining": "How the model is retrained.",
    "healing": "Which actions Mendel may take on an incident without approval by a person.",
    "rollback": "The bounds on the production version's performance that trigger a rollback.",
    "governance": "Which governance flags a version needs before it may serve users.",
    "promotion": "When promotions may begin, and which versions are deployed beside the production version.",
    "canary": "The steps of a canary, and the evidence that each step needs.",
}


def project_schema(policies: Mapping[str, type]) -> Schema:
    """
    Give the JSON Schema (dialect 2020-12) of a file with one classifier, or with several under ``classifiers``.

    Args:
        policies: The dataclass of each policy section by name.
    """
    shared = {name: _section(kind) for name, kind in _SHARED.items()}
    shared["api"]["properties"]["feature_order"] = _feature_order()
    sections = {name: _nullable(section_schema(kind)) for name, kind in policies.items()}
    for name, section in sections.items():
        section["description"] = _ABOUT.get(name, section.get("description", ""))
    whole = {"repository": _section(RepositorySection), "deployment": _section(DeploymentSection)}
    own = {"predictor": section_schema(PredictorSection, empty_keys=True), **shared, **sections}
    definitions = {
        "single": _object({"classifier": _naming(named=False), **own, **whole}, required=["classifier", "predictor"]),
        "one_of_several": _object({"classifier": _naming(named=True), **own}, required=["predictor"]),
        "several": _object(
            {
                "classifiers": {
                    "type": "object",
                    "description": _ABOUT["classifiers"],
                    "minProperties": 1,
                    "propertyNames": {"pattern": NAME_PATTERN},
                    "additionalProperties": {"$ref": "#/$defs/one_of_several"},
                },
                "default_classifier": _nullable({"type": "string", "description": _ABOUT["default_classifier"]}),
                **shared,
                **whole,
            },
            required=["classifiers"],
        ),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mlserver.yaml",
        "description": "A project of Mendel: one classifier, or several.",
        "type": "object",
        "if": {"required": ["classifiers"]},
        "then": {"$ref": "#/$defs/several"},
        "else": {"$ref": "#/$defs/single"},
        "$defs": definitions,
    }


def section_schema(kind: type, *, empty_keys: bool = False) -> Schema:
    """
    Give the schema of one section: type, default and meaning of every key; other keys are not allowed.

    Args:
        empty_keys: Whether a key without a value (null) counts as absent.
    """
    hints, meanings = get_type_hints(kind), attribute_meanings(kind)
    keys: Schema = {}
    for one in fields(kind):
        schema = {**_of(hints[one.name]), **_BOUNDS.get((kind, one.name), {})}
        if one.name in meanings:
            schema["description"] = meanings[one.name]
        if (default := _default(one)) is not MISSING:
            schema = schema if is_dataclass(hints[one.name]) else {**schema, "default": _as_written(default)}
            schema = _nullable(schema) if empty_keys else schema
        keys[one.name] = schema
    return {
        **_object(keys, required=[one.name for one in fields(kind) if _default(one) is MISSING]),
        "description": _claim(kind),
    }


def _section(kind: type) -> Schema:
    return _nullable(section_schema(kind, empty_keys=True))


def attribute_meanings(kind: type) -> dict[str, str]:
    """Read the meaning of each attribute from ``Attributes:`` or ``Args:`` in the docstrings of *kind* and parents."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        block = re.search(
            r"^(?:Attributes|Args):\n((?:[ ]+.*\n?|\n)+)", inspect.cleandoc(one.__doc__ or ""), re.MULTILINE
        )
        for names, said in re.findall(
            r"^    ([\w, ]+): ((?:.*)(?:\n(?:        .*|$))*)", block.group(1) if block else "", re.MULTILINE
        ):
            for name in names.split(","):
                found[name.strip()] = " ".join(said.split()).replace("``", "`")
    return found


def _of(hint: Any) -> Schema:  # noqa: PLR0911 - one line per kind of type
    arms = [arm for arm in get_args(hint) if arm is not NoneType]
    if get_origin(hint) in {Union, UnionType}:
        inner = [_of(arm) for arm in arms]
        return _nullable(inner[0]) if len(inner) == 1 else {"anyOf": [*inner, {"type": "null"}]}
    if get_origin(hint) is Literal:
        return {"enum": list(arms)}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _of(arms[0])}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _of(arms[1])}
    if hint is Any:
        return {}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [one.value for one in hint]}
    return section_schema(hint) if is_dataclass(hint) and isinstance(hint, type) else dict(_PLAIN[hint])


def _nullable(schema: Schema) -> Schema:
    """Allow null too, which keeps the key's default."""
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema and None not in schema["enum"]:
        return {**schema, "enum": [*schema["enum"], None]}
    return schema


def _object(properties: Schema, *, required: list[str]) -> Schema:
    needed = {"required": required} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **needed}


def _naming(*, named: bool) -> Schema:
    keys: Schema = {
        "name": {
            "type": "string",
            "pattern": NAME_PATTERN,
            "description": "The name of the classifier and of its registered model.",
        },
        "description": {"type": ["string", "null"], "description": "What the classifier predicts, in a sentence."},
        "repository": {"type": ["string", "null"], "description": "The repository that the classifier belongs to."},
    }
    if named:
        keys["name"]["description"] += " Optional; it must equal the key of the classifier's section."
        return _nullable({**_object(keys, required=[]), "description": _ABOUT["classifier"]})
    return {**_object(keys, required=["name"]), "description": _ABOUT["classifier"]}


def _feature_order() -> Schema:
    about = "The order of the features: a list, or the path of a JSON array of names inside the project."
    return {
        "description": about,
        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}, {"type": "null"}],
    }


def _default(one: Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    return one.default_factory() if one.default_factory is not MISSING else MISSING


def _as_written(value: Any) -> Any:
    match value:
        case timedelta():
            return render_duration(value)
        case Enum():
            return value.value
        case tuple():
            return [_as_written(one) for one in value]
        case _:
            return value


def _claim(kind: type) -> str:
    first = re.split(r"\n\s*\n", inspect.cleandoc(kind.__doc__ or ""))[0]
    return " ".join(first.split()).replace("``", "`")
