"""
Find the phrases in error messages, remedies, command help and documentation that readers did not understand.

Each entry of ``PHRASES`` is a pattern and the better form. A line with the comment ``plain: REASON`` is exempt.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "mendel"
EXEMPT = re.compile(r"(?:#|<!--) plain: \S")

PHRASES: dict[str, str] = {
    r"(?<![Tt]here )\bis no (?!longer\b|more\b|better\b)[a-z]": "write 'is not a ...'",
    r"\b[Ww]hoever\b": "name the person or program",
    r"\bsomebody\b|\bSomebody\b": "write 'another process', 'another user' or 'another call'",
    r"\bat hand\b": "write where the thing is",
    r"\bas (?:it|they) stands?\b": "name the state that matters",
    r"\bplain move\b": "name the command",
    r"\bcan(?:not)? be had\b|\bto be had\b": "write 'was not found' and where was searched",
    r"\bstands? twice\b": "write 'occurs twice'",
    r"\btakes nothing\b": "write 'accepts no ...'",
    r"^It reads\b": "write 'Write ...' with the form",
    r"\bof others\b": "name the others",
    r"\bSay (?:so|what|which|who|whose|below)\b": "name the flag or key to set",
    r"^There are \{\}\.$": "write 'Choose one of ...'",
}


def literals(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each text literal in an expression; a field of an f-string becomes ``{}``."""
    match node:
        case ast.Constant(value=str(text)):
            yield node.lineno, text
        case ast.JoinedStr():
            text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, text
        case _:
            for child in ast.iter_child_nodes(node):
                yield from literals(child)


def error_names() -> frozenset[str]:
    """Give the names of the classes in ``mendel.errors``."""
    tree = ast.parse((SOURCE / "errors.py").read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.ClassDef))


def texts_for_users(source: str, errors: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield line and text of error messages, remedies and command help in Python *source*."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in errors and node.args:
            yield from literals(node.args[0])
        for keyword in node.keywords:
            if keyword.arg in {"remedy", "help"}:
                yield from literals(keyword.value)


def faults(texts: Iterator[tuple[int, str]], lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield line and message for each phrase of ``PHRASES`` in *texts*, except on exempt lines."""
    for number, text in texts:
        for pattern, better in PHRASES.items():
            found = re.search(pattern, text)
            if found and not EXEMPT.search(lines[number - 1]):
                yield number, f"{found.group()!r} is hard to understand; {better}"


def main() -> int:
    """Print every fault; give 1 when one was found."""
    errors, found = error_names(), []
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        found += [(path, *fault) for fault in faults(texts_for_users(source, errors), source.splitlines())]
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        lines = path.read_text(encoding="utf-8").splitlines()
        if any("Made by scripts/make_reference.py" in line for line in lines[:5]):
            continue
        found += [(path, *fault) for fault in faults(iter(enumerate(lines, 1)), lines)]
    for path, number, message in found:
        print(f"{path.relative_to(ROOT)}:{number}: {message}")
    print(f"{len(found)} hard phrases")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
