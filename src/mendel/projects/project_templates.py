"""A first project, and the older form of one as today's: pure text, nothing written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from keyword import iskeyword
from typing import Any

import yaml

from mendel.errors import InvalidValue
from mendel.projects.project_file import FILE, without_retired
from mendel.projects.yaml_document import Document
from mendel.values import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file to be: its path relative to the project, posix, and its text."""

    path: str
    text: str


def skeleton(name: ModelName, predictor_class: str) -> tuple[NewFile, ...]:
    """
    The files of a project that serves as it stands.

    Raises:
        InvalidValue: *predictor_class* cannot be the name of a class.
    """
    if not predictor_class.isidentifier() or iskeyword(predictor_class):
        raise InvalidValue(f"{predictor_class!r} cannot be the name of a class.", remedy="Write it as Python does.")
    places = {
        FILE: "mlserver",
        "predictor.py": "predictor",
        "requirements.txt": "requirements",
        ".gitignore": "gitignore",
        f"smoke/{name}.json": "smoke",
    }
    folder = resources.files("mendel.projects").joinpath("templates")
    texts = {path: folder.joinpath(f"{word}.template").read_text(encoding="utf-8") for path, word in places.items()}
    return tuple(
        NewFile(path=path, text=text.replace("@@NAME@@", name_as_yaml(name)).replace("@@CLASS@@", predictor_class))
        for path, text in texts.items()
    )


def name_as_yaml(name: str) -> str:
    """
    *name* as a YAML text: quoted where it would be read as something else.

    >>> name_as_yaml("churn"), name_as_yaml("1"), name_as_yaml("null")
    ('churn', "'1'", "'null'")
    """
    return str(yaml.safe_dump(str(name), width=1 << 16).split("\n", 1)[0])


def classifier_name(directory: str) -> ModelName:
    """
    A name for the classifier of a *directory* of that name.

    >>> classifier_name("Credit Risk (2024)")
    'credit-risk-2024'
    """
    plain = unicodedata.normalize("NFKD", directory).encode("ascii", "ignore").decode().lower()
    return ModelName(re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:128] or "classifier")


def migrated(document: Document, text: str) -> str:
    """
    *text*, the older form of *document*, as today's: without the keys that are no longer read, comments kept.

    Where a retired key cannot be cut out by its lines (flow style, aliases), the mapping is written anew, without
    comments.
    """
    wanted = without_retired(document)[0].tree
    cut = "".join(_without_lines(text, wanted))
    try:
        kept = yaml.safe_load(cut)
    except yaml.YAMLError:
        kept = None
    return cut if kept == wanted else yaml.safe_dump(dict(wanted), sort_keys=False, allow_unicode=True)


def _without_lines(text: str, wanted: Any) -> Iterator[str]:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    gone = {line for span in _retired_spans(node, wanted) for line in span}
    yield from (line for number, line in enumerate(text.splitlines(keepends=True)) if number not in gone)


def _retired_spans(node: yaml.Node | None, wanted: Any) -> Iterator[range]:
    if not isinstance(node, yaml.MappingNode) or not isinstance(wanted, dict):
        return
    for key, value in node.value:
        if key.value not in wanted:
            yield range(key.start_mark.line, max(_last_line(value), key.start_mark.line) + 1)
        else:
            yield from _retired_spans(value, wanted[key.value])


def _last_line(node: yaml.Node) -> int:
    """Where *node* ends; a mapping of block style would count comments behind it as its own."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    below = node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line
    return int(node.end_mark.line) - below
