"""The trailers in a release tag's message, which record the names and digests that a later rebuild needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

REPOSITORY_NAME, REPOSITORY_BRANCH, REPOSITORY_URL = "Repository-Name", "Repository-Branch", "Repository-Url"
TOOL_VERSION, TOOL_URL, UNTRACKED_ARTIFACT = "Tool-Version", "Tool-Url", "Untracked-Artifact"

_TRAILER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*): *(.*)")


def with_trailers(text: str, trailers: Iterable[tuple[str, str | None]]) -> str:
    r"""
    Write a tag message: *text*, then a last paragraph with every trailer whose value is not None.

    >>> with_trailers("Spring release", [("Tool-Version", "1.2"), ("Tool-Url", None)])
    'Spring release\n\nTool-Version: 1.2\n'
    """
    lines = [f"{name}: {' '.join(value.split())}" for name, value in trailers if value]
    return "\n".join([text.strip(), "", *lines]) + "\n" if lines else f"{text.strip()}\n"


def read_trailers(message: str) -> dict[str, tuple[str, ...]]:
    r"""
    Read the values of each trailer of *message*, in order; trailers count only in a last paragraph of trailers alone.

    >>> read_trailers("Tool-Version: of the body\n\nTool-Version: 1.2\n")
    {'Tool-Version': ('1.2',)}
    """
    paragraphs = re.split(r"\n[ \t]*\n", message.strip())
    lines = paragraphs[-1].splitlines() if len(paragraphs) > 1 else []
    pairs = [_TRAILER.fullmatch(line.rstrip()) for line in lines]
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs if all(pairs) else ():
        if pair is not None:
            found[pair.group(1)] = (*found.get(pair.group(1), ()), pair.group(2))
    return found


def artifact_value(path: str, digest: str) -> str:
    """Write the value of an ``Untracked-Artifact`` trailer; a path with unusual characters is quoted as in JSON."""
    plain = path.isprintable() and path == " ".join(path.split()) and not path.startswith('"')
    quoted = path if plain else json.dumps(path).replace("  ", " \\u0020")
    return f"{digest} {quoted}"


def artifact_of(value: str) -> tuple[str, str]:
    """
    Read path and digest from the value of an ``Untracked-Artifact`` trailer.

    >>> artifact_of(artifact_value("two  spaces.bin", "sha256:00"))
    ('two  spaces.bin', 'sha256:00')
    """
    digest, _, path = value.partition(" ")
    if not path.startswith('"'):
        return path, digest
    try:
        return str(json.loads(path)), digest
    except ValueError:  # a person wrote the trailer, with a path that begins with a quote
        return path, digest
