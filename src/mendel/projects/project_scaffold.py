"""Generate the text of a new project's files, and convert the older project format; nothing is written to disk."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from keyword import iskeyword
from typing import Any

import yaml

from mendel.errors import InvalidValue
from mendel.projects.project_file import FILE, without_retired_keys
from mendel.projects.yaml_document import YamlDocument
from mendel.values import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file to create: its POSIX path relative to the project, and its text."""

    path: str
    text: str


def new_project_files(name: ModelName, predictor_class: str) -> tuple[NewFile, ...]:
    """
    Generate the files of a new project that can be served without changes.

    Raises:
        InvalidValue: *predictor_class* is not a valid class name.
    """
    places = {
        FILE: "mlserver",
        "predictor.py": "predictor",
        "requirements.txt": "requirements",
        ".gitignore": "gitignore",
        f"smoke/{name}.json": "smoke",
    }
    folder = resources.files("mendel.projects").joinpath("templates")
    texts = {path: folder.joinpath(f"{word}.template").read_text(encoding="utf-8") for path, word in places.items()}
    words = {"@@NAME@@": name_as_yaml(name), "@@CLASS@@": checked_class_name(predictor_class)}
    return tuple(NewFile(path=path, text=filled(text, words)) for path, text in texts.items())


def filled(text: str, words: Mapping[str, str]) -> str:
    """Replace the @@WORDS@@ of a template, all at once, so that such a word inside a value stays as it is."""
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)


def checked_class_name(predictor_class: str) -> str:
    """
    Give *predictor_class* if a Python class can have this name.

    Raises:
        InvalidValue: *predictor_class* is not a valid class name.
    """
    if not predictor_class.isidentifier() or iskeyword(predictor_class):
        raise InvalidValue(
            f"{predictor_class!r} is not a valid Python class name.",
            remedy="Use letters, digits and '_'; do not start with a digit.",
        )
    return predictor_class


def name_as_yaml(name: str) -> str:
    """
    Write *name* as a YAML string, in quotes when YAML would read it as another type.

    >>> name_as_yaml("churn"), name_as_yaml("1"), name_as_yaml("null")
    ('churn', "'1'", "'null'")
    """
    return str(yaml.safe_dump(str(name), width=1 << 16).split("\n", 1)[0])


def classifier_name(directory: str) -> ModelName:
    """
    Derive a classifier's name from the name of its *directory*.

    >>> classifier_name("Credit Risk (2024)")
    'credit-risk-2024'
    """
    plain = unicodedata.normalize("NFKD", directory).encode("ascii", "ignore").decode().lower()
    return ModelName(re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:128] or "classifier")


def convert_older_format(document: YamlDocument, text: str) -> str:
    """
    Convert *text*, the older format of *document*, to the current format: drop retired keys, keep comments.

    When a retired key cannot be removed by whole lines (flow style, aliases), the mapping is written again without
    comments.
    """
    wanted = without_retired_keys(document)[0].tree
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
    """Give the last line of *node* without the comments that follow it, which PyYAML counts to a block mapping."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    below = node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line
    return int(node.end_mark.line) - below
