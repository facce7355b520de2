"""
Check the texts for users: every page of the documentation, and every message in the source.

Each relative link must lead to a file; each command, flag, key, extra and environment variable must exist. A Python
block that follows a line ``<!-- run -->`` is run in an empty directory; ``--fast`` does not run these blocks.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
CALL = re.compile(r"(?<![\w.-])(mendel|mlserver) ([a-z][^`\n]*)")
SHOWN = re.compile(r"(?:^|\$ |`)(?:\.venv/bin/)?(mendel|mlserver) ([a-z][^`\n]*)", re.MULTILINE)
VERB = re.compile(r"(?:^\$ |`)make ([a-z]+)", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
EXTRA = re.compile(r"\bmendel\[([^\]{}]+)\]")
VARIABLE = re.compile(r"\bMENDEL_[A-Z_]+\b")
CODE = re.compile(r"`([^`\n]+)`")
RUNNABLE = re.compile(r"^<!-- run -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 120

PROSE = {"and", "from", "or", "tags", "tool"}  # "the mlserver tool"
END = {"or", "and", "|", "||", "&&", "#", "writes", "is"}
FLAGS_OF_OTHERS = {"--dest-compress-format", "--tags"}  # of skopeo and git
KEY = re.compile(r"(?<![\w./-])[a-z_]+(?:\.[a-z_]+)+(?![\w(/*])")
FILE = re.compile(r"\.(db|json|key|log|md|py|yaml)$")
FILLED_IN = "X"
Words = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What exists: commands with their flags, verbs of the Makefile, keys, types of events, extras, variables."""

    commands: Mapping[Words, set[str]]
    verbs: set[str]
    keys: set[str]
    events: set[str]
    extras: set[str]
    variables: set[str]

    @property
    def flags(self) -> set[str]:
        """Flags of any command."""
        return set().union(*self.commands.values())


def pages() -> list[Path]:
    """Every Markdown page of the repository."""
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


def broken_links(page: str, at: Path) -> Iterator[str]:
    """Relative links of a page in the directory *at* that lead nowhere."""
    for target in LINK.findall(page):
        if "://" not in target and not target.startswith("mailto:") and not (at / target).exists():
            yield f"link to {target} leads nowhere"


def unknown_on_page(page: str, known: Known) -> Iterator[str]:
    """What a page tells people to type and does not exist."""
    for name, rest in sorted(set(SHOWN.findall(page))):
        yield from unknown_command(name, rest, known)
    for verb in sorted(set(VERB.findall(page)) - known.verbs):
        yield f"there is no verb 'make {verb}'"
    yield from unknown_names(page, known)
    for text in sorted(set(CODE.findall(page))):
        yield from unknown_keys(text, known)


def unknown_in_message(text: str, known: Known) -> Iterator[str]:
    """What an error or a remedy tells people to do and cannot be done."""
    yield from unknown_keys(text, known)
    for flag in sorted(set(FLAG.findall(text)) - known.flags - FLAGS_OF_OTHERS):
        yield f"there is no flag {flag}"
    if "use PostgreSQL" in text and "state.url" not in known.keys:
        yield "no setting names another database"


def unknown_in_text(text: str, known: Known) -> Iterator[str]:
    """Commands, extras and variables that a literal of the source names and that do not exist."""
    for name, rest in CALL.findall(text):
        if rest.split()[0].rstrip(".,;:") not in PROSE:
            yield from unknown_command(name, rest, known)
    yield from unknown_names(text, known)


def unknown_names(text: str, known: Known) -> Iterator[str]:
    """Extras and environment variables that do not exist."""
    named = {name.strip() for found in EXTRA.findall(text) for name in found.split(",")}
    for extra in sorted(named - known.extras - {FILLED_IN}):
        yield f"there is no extra mendel[{extra}]"
    for variable in sorted(set(VARIABLE.findall(text)) - known.variables):
        if not variable.endswith(("_", f"_{FILLED_IN}")):
            yield f"there is no variable {variable}"


def unknown_keys(text: str, known: Known) -> Iterator[str]:
    """Dotted names that begin like a key of settings, project or policy and are none."""
    sections = {key.partition(".")[0] for key in known.keys if "." in key}
    for key in sorted(set(KEY.findall(text)) - known.events):
        if key.partition(".")[0] in sections and not FILE.search(key) and not _is_key(key, known.keys):
            yield f"there is no key {key}"


def unknown_command(name: str, rest: str, known: Known) -> Iterator[str]:
    """What is wrong with *rest* behind the name of the program: no such command, or not its flag."""
    words, flags = _split(rest)
    nouns = {command[0] for command in known.commands if len(command) > 1}
    shown = words[:2] if words[0] in nouns else words[:1]
    if shown not in known.commands:
        yield f"there is no command '{name} {' '.join(shown)}'"
        return
    allowed = set().union(*(its for command, its in known.commands.items() if command[: len(shown)] == shown))
    for flag in sorted(flags - allowed):
        yield f"'{name} {' '.join(shown)}' has no flag {flag}"


def runnable(page: str) -> list[str]:
    """The Python blocks of a page that are marked to be run."""
    return RUNNABLE.findall(page)


def failures(page: str) -> Iterator[str]:
    """Run each marked block of a page in a directory of its own; what went wrong, its last line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MENDEL_")}
    for place, block in enumerate(runnable(page), 1):
        with tempfile.TemporaryDirectory() as scratch:
            ran = subprocess.run(  # noqa: S603 - our own documentation
                [sys.executable, "-c", block],
                cwd=scratch,
                env=environment,
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
        if ran.returncode:
            yield f"Python block {place} fails: {(ran.stderr.strip().splitlines() or ['?'])[-1]}"


def texts() -> Iterator[tuple[str, str]]:
    """Every literal of the source, with its place; what is filled in is an X."""
    for place, node in _nodes():
        if text := _text(node):
            yield place, text


def messages() -> Iterator[tuple[str, str]]:
    """The literals of the source that people read when something is refused: in errors and remedies."""
    for place, node in _nodes():
        said = node.exc if isinstance(node, ast.Raise) else node.value if _is_remedy(node) else None
        for part in ast.walk(said) if said is not None else ():
            if text := _text(part):
                yield place, text


def known() -> Known:
    """What exists, from the code itself."""
    from mendel.app.cli.main import commands  # noqa: PLC0415 - tests of this file's functions need no CLI
    from mendel.app.project.project_file_schema import mlserver_schema  # noqa: PLC0415
    from mendel.app.settings import OTHER_VARIABLES, explain_settings  # noqa: PLC0415

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    settings = {origin.key for origin in explain_settings(environment={}, flags={"directory": str(ROOT)})}
    schema = mlserver_schema()
    return Known(
        commands={
            words: {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
            for words, command in commands()
        },
        verbs=set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)),
        keys=settings | {key for form in schema["$defs"].values() for key in _keys(form, schema["$defs"])},
        events=set(CODE.findall((ROOT / "docs/reference/events.md").read_text(encoding="utf-8"))),
        extras=set(project["optional-dependencies"]),
        variables={f"MENDEL_{key.upper().replace('.', '__')}" for key in settings} | OTHER_VARIABLES,
    )


def faults() -> Iterator[str]:
    """What is wrong, but for Python that fails."""
    there = known()
    for path in pages():
        page = path.read_text(encoding="utf-8")
        for fault in (*broken_links(page, path.parent), *unknown_on_page(page, there)):
            yield f"{path.relative_to(ROOT)}: {fault}"
    for place, text in texts():
        yield from (f"{place}: {fault}" for fault in unknown_in_text(text, there))
    for place, text in messages():
        yield from (f"{place}: {fault}" for fault in unknown_in_message(text, there))


def _split(rest: str) -> tuple[Words, set[str]]:
    """The words of a command and its flags, as far as it goes in the sentence that it stands in."""
    words: list[str] = []
    flags: set[str] = set()
    for token in rest.split():
        if token in END:
            break
        bare = token.strip(".,;:()'\"")
        if FLAG.match(bare):
            flags.add(bare.partition("=")[0])
        elif not flags and len(words) < 2 and re.fullmatch(r"[a-z][a-z-]*", bare):  # noqa: PLR2004 - noun and verb
            words.append(bare)
        if token[-1] in ".,;:)":
            break
    return tuple(words), flags


def _is_key(key: str, keys: set[str]) -> bool:
    parts = key.split(".")
    return any(
        all(mine in (part, "*") for mine, part in zip(one.split("."), parts, strict=False))
        for one in keys
        if one.count(".") >= len(parts) - 1
    )


def _keys(node: Mapping[str, Any], shared: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Dotted keys of a JSON Schema; a * stands for any name."""
    if reference := node.get("$ref"):
        node = shared[reference.rpartition("/")[2]]
    inner = {**node.get("properties", {})}
    if isinstance(node.get("additionalProperties"), dict):
        inner["*"] = node["additionalProperties"]
    for name, child in inner.items():
        yield f"{at}{name}"
        yield from _keys(child, shared, f"{at}{name}.")


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for file in sorted((ROOT / "src").rglob("*.py")):
        path = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{path}:{getattr(node, 'lineno', 0)}", node


def _is_remedy(node: ast.AST) -> TypeGuard[ast.keyword]:
    return isinstance(node, ast.keyword) and node.arg == "remedy"


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED_IN for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def main() -> int:
    """Print what is wrong; 1 when something is."""
    found, ran = list(faults()), 0
    for path in pages() if "--fast" not in sys.argv else ():
        page = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(ROOT)}: {fault}" for fault in failures(page)]
        ran += len(runnable(page))
    for fault in found:
        print(fault)
    print(f"{len(pages())} pages, {len(list(messages()))} messages, {ran} blocks run, {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
