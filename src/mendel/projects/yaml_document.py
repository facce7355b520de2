"""Read a YAML file with the line number of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mendel.errors import InvalidProject

_MAX_PLACES = 100_000
_FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Place = tuple[str, ...]
"""The keys that lead to a value: ``("server", "port")``; list items are numbered from ``"0"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlDocument:
    """A mapping read from a YAML file, and the line of every key, counted from 1."""

    path: Path
    tree: Mapping[str, Any]
    lines: Mapping[Place, int]

    def error(self, message: str, place: Place, *, remedy: str = "") -> InvalidProject:
        """Make an error that names the line of *place*, or of its nearest parent with a known line."""
        known = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in self.lines), ())
        return InvalidProject(message, path=str(self.path), line=self.lines.get(known), remedy=remedy)


def read_document(path: Path) -> YamlDocument:
    """
    Read a YAML file that holds one mapping.

    Raises:
        InvalidProject: The file is not UTF-8, not YAML or not a mapping, contains itself through an alias, or repeats a
            key; the message names the line.
    """
    try:
        node = _compose(path.read_text(encoding="utf-8"))
        if not isinstance(node, yaml.MappingNode):
            raise InvalidProject("the file is not a mapping of sections.", path=str(path), line=1)
        lines: dict[Place, int] = {}
        _place_lines(node, (), lines, path)
        tree = yaml.constructor.SafeConstructor().construct_document(node)
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise InvalidProject(f"the file is not UTF-8 text: {error}.", path=str(path)) from error
    except OSError as error:
        raise InvalidProject(f"the file cannot be read: {error.strerror}.", path=str(path)) from error
    except RecursionError as error:
        raise InvalidProject("the file is nested too deeply, or an alias contains itself.", path=str(path)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        raise InvalidProject(f"the file is not YAML: {error.problem}.", path=str(path), line=line) from error
    return YamlDocument(path=path, tree=tree, lines=lines)


def _compose(text: str) -> yaml.Node | None:
    """
    The loader in C is quick; the loader in Python accepts some texts more, and explains errors better.

    The loader in C accepts tabs where YAML forbids them, so it does not read a text with tabs.
    """
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader if "\t" in text else _FAST_LOADER)
    except yaml.YAMLError:
        return yaml.compose(text, Loader=yaml.SafeLoader)


def _place_lines(node: yaml.Node, place: Place, lines: dict[Place, int], path: Path) -> None:
    if len(lines) > _MAX_PLACES:  # aliases of aliases multiply
        raise InvalidProject(f"the file has more than {_MAX_PLACES:,} keys and list items.", path=str(path))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*place, str(index))] = item.start_mark.line + 1
            _place_lines(item, (*place, str(index)), lines, path)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidProject("a key is a list or a mapping; keys must be text.", path=str(path), line=line)
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        inner = (*place, key.value)
        if inner in lines:
            message = f"the key {'.'.join(inner)!r} occurs twice, first in line {lines[inner]}."
            raise InvalidProject(message, path=str(path), line=line)
        lines[inner] = line
        _place_lines(value, inner, lines, path)
