"""Check the policy sections of mlserver.yaml, and build the JSON Schema of mlserver.yaml."""

from __future__ import annotations

import re
from typing import Any

from mendel.errors import InvalidPolicy, InvalidProject
from mendel.projects import POLICY_SECTIONS, Classifier, Place, Project, YamlDocument, project_schema, read_document
from mendel.values import from_mapping

_UNKNOWN = re.compile(r"unknown key '([^']*)'")
_FAULT = re.compile(r"`(?:key in )?\$\.?([^`]*)`")


def mlserver_schema() -> dict[str, Any]:
    """Give the JSON Schema of ``mlserver.yaml``, including its policy sections."""
    from mendel.operations import POLICIES  # noqa: PLC0415

    return project_schema(POLICIES)


def require_policies(project: Project) -> None:
    """
    Check the policy sections of every classifier of *project*.

    Raises:
        InvalidProject: A key is unknown or a value is invalid; the error names the line in mlserver.yaml.
    """
    for classifier in project.classifiers:
        for section in POLICY_SECTIONS if classifier.policy else ():
            try:
                _check(classifier, section)
            except InvalidPolicy as error:
                whole = ("classifiers", classifier.name, section) if project.multi else (section,)
                raise _located(read_document(project.file), whole, error) from error


def _check(classifier: Classifier, section: str) -> None:
    from mendel.healing import HealingPolicy  # noqa: PLC0415 - `mendel tag` of a project without policies is quick
    from mendel.operations import POLICIES  # noqa: PLC0415

    if section == "healing":
        HealingPolicy.of(classifier.policy)
    else:
        from_mapping(POLICIES[section], getattr(classifier, section), at=section)


def _located(document: YamlDocument, section: Place, error: InvalidPolicy) -> InvalidProject:
    """
    Convert *error* to an error with a line number in mlserver.yaml.

    The line is found from the key that the message names, as in ``section.key: unknown key 'x'``.
    """
    at, _, said = error.message.partition(": ")
    named = [found.group(1) for pattern in (_UNKNOWN, _FAULT) if (found := pattern.search(said))]
    inner = [part for text in (at, *named) for part in re.findall(r"[^.\[\]]+", text)]
    place = (*section, *(inner[1:] if inner[:1] == [section[-1]] else ()))
    prefix = ".".join(section[:-1])
    return document.error(f"{prefix}.{error.message}" if prefix else error.message, place, remedy=error.remedy)
