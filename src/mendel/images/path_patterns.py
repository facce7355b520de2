"""The path patterns of ``build.exclude_patterns`` and ``build.include_files``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from mendel.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    A path pattern with the syntax of ``.gitignore``: ``*`` and ``?`` match within a name, ``**`` crosses directories.

    A pattern without a slash matches at every depth; a pattern with a slash matches from the project's root. A final
    slash matches directories only. A pattern that matches a directory covers everything below it. Negation (``!``) is
    not supported, because the order of these patterns has no meaning.

    >>> Pattern("*.tmp").covers("deep/in/a.tmp"), Pattern("/data/**/raw").covers("data/x/y/raw/file")
    (True, True)
    >>> Pattern("notes/").covers("notes"), Pattern("a*c").covers("a/c")
    (False, False)
    """

    text: str

    def __post_init__(self) -> None:
        if self.text.startswith("!"):
            raise InvalidValue(
                f"The pattern {self.text!r} begins with '!'; negation is not supported.",
                remedy="Write a pattern for the paths to match.",
            )
        if not self.text.strip("./") or ".." in self.text.split("/") or "\0" in self.text:
            raise InvalidValue(
                f"{self.text!r} is not a pattern for paths inside the project directory.",
                remedy="Write the pattern without '..' and without the character NUL.",
            )
        _compiled(self.text)

    def covers(self, path: str, *, directory: bool = False) -> bool:
        """Tell whether the pattern matches *path* (POSIX, relative to the project) or a directory above it."""
        compiled = _compiled(self.text)
        *above, last = _prefixes(path)
        if any(compiled.fullmatch(place) for place in above):
            return True
        return (directory or not self.text.endswith("/")) and compiled.fullmatch(last) is not None


@lru_cache(maxsize=256)
def _compiled(text: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hide FutureWarning about set syntax such as [a--b]
            return re.compile(_expression(text), re.DOTALL)
    except re.error as error:
        raise InvalidValue(f"{text!r} is not a valid path pattern: {error}.") from error


def _prefixes(path: str) -> Iterator[str]:
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])


def _expression(text: str) -> str:
    body = text.rstrip("/")
    anchored = "/" in body
    parts = [part for part in body.split("/") if part not in {"", "."}]
    if not anchored:
        return f"(?:.*/)?{_name(parts[0])}"
    expression = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            expression += ".+" if last else "(?:.*/)?"
        else:
            expression += _name(part) + ("" if last else "/")
    return expression


def _name(part: str) -> str:
    """Translate the pattern for one name of a path to a regular expression."""
    out, place = "", 0
    while place < len(part):
        letter = part[place]
        place += 1
        if letter == "*":
            out += "" if out.endswith("[^/]*") else "[^/]*"
        elif letter == "?":
            out += "[^/]"
        elif letter == "\\" and place < len(part):
            out += re.escape(part[place])
            place += 1
        elif (
            letter == "[" and (end := part.find("]", place + 2 if part[place : place + 1] in "!^]" else place + 1)) > 0
        ):
            out += _letters(part[place:end])
            place = end + 1
        else:
            out += re.escape(letter)
    return out


def _letters(inside: str) -> str:
    negated = inside[:1] in {"!", "^"}
    body = inside[1:] if negated else inside
    escaped = body.replace("\\", r"\\").replace("[", r"\[").replace("]", r"\]").replace("^", r"\^")
    return f"(?!/)[{'^' if negated else ''}{escaped}]"
