"""YAML with its line numbers: values, and where each key stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mendel.errors import InvalidProject

_MOST_PLACES = 100_000

Place = tuple[str, ...]
"""The keys that lead to a value: ``("server", "port")``; list items count from ``"0"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A mapping read from a file, and the 1-based line of every key in it."""

    path: Path
    tree: Mapping[str, Any]
    lines: Mapping[Place, int]

    def error(self, message: str, place: Place, *, remedy: str = "") -> InvalidProject:
        """The error that names the nearest line known for *place*."""
        known = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in self.lines), ())
        return InvalidProject(message, path=str(self.path), line=self.lines.get(known), remedy=remedy)


def read_document(path: Path) -> Document:
    """
    Read one YAML mapping.

    Raises:
        InvalidProject: Not UTF-8, not YAML, not a mapping, one without an end, or a key that stands twice; with its
            line.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise InvalidProject(f"not a text in UTF-8: {error}.", path=str(path)) from error
    except OSError as error:
        raise InvalidProject(f"cannot be read: {error.strerror}.", path=str(path)) from error
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise InvalidProject("the file is not a mapping of sections.", path=str(path), line=1)
        lines: dict[Place, int] = {}
        _place_lines(node, (), lines, path)
        tree = loader.construct_document(node)
    except RecursionError as error:
        raise InvalidProject("it holds itself, or is nested too deeply.", path=str(path)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        raise InvalidProject(f"not YAML: {error.problem}.", path=str(path), line=line) from error
    finally:
        loader.dispose()
    return Document(path=path, tree=tree, lines=lines)


def _place_lines(node: yaml.Node, place: Place, lines: dict[Place, int], path: Path) -> None:
    if len(lines) > _MOST_PLACES:  # aliases of aliases multiply
        raise InvalidProject(f"it has more than {_MOST_PLACES:,} keys and items.", path=str(path))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*place, str(index))] = item.start_mark.line + 1
            _place_lines(item, (*place, str(index)), lines, path)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidProject("a key must be a word.", path=str(path), line=line)
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        inner = (*place, key.value)
        if inner in lines:
            message = f"the key {'.'.join(inner)!r} stands twice; first in line {lines[inner]}."
            raise InvalidProject(message, path=str(path), line=line)
        lines[inner] = line
        _place_lines(value, inner, lines, path)
