"""
Check the documentation: every relative link leads somewhere, every command it shows exists, its runnable Python runs.

A Python block that follows a line ``<!-- run -->`` is run in a directory of its own; ``--fast`` leaves that out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|\$ |`)(?:\.venv/bin/)?(mendel|mlserver) ((?:[a-z][a-z-]+ ?){1,2})", re.MULTILINE)
VERB = re.compile(r"(?:^\$ |`)make ([a-z]+)", re.MULTILINE)
RUNNABLE = re.compile(r"^<!-- run -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 120
Words = tuple[str, ...]


def pages() -> list[Path]:
    """Every Markdown page of the repository."""
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


def broken_links(page: str, at: Path) -> Iterator[str]:
    """Relative links of a page in the directory *at* that lead nowhere."""
    for target in LINK.findall(page):
        if "://" not in target and not target.startswith("mailto:") and not (at / target).exists():
            yield f"link to {target} leads nowhere"


def unknown_commands(page: str, known: set[Words], verbs: set[str]) -> Iterator[str]:
    """Commands that a page shows and nobody can run, under either name of the program."""
    groups = {words[0] for words in known if len(words) > 1}
    for name, found in sorted(set(COMMAND.findall(page))):
        words = tuple(found.split())
        shown = words if words[0] in groups else words[:1]
        if shown not in known:
            yield f"there is no command '{name} {' '.join(shown)}'"
    for verb in sorted(set(VERB.findall(page)) - verbs):
        yield f"there is no verb 'make {verb}'"


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


def known_commands() -> set[Words]:
    """Every command of the CLI, groups included, from its own tree."""
    from mendel.app.cli.main import commands  # noqa: PLC0415 - tests of this file's functions need no CLI

    return {words for words, _ in commands()}


def known_verbs() -> set[str]:
    """Every verb of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def main() -> int:
    """Print what is wrong; 1 when something is."""
    known, verbs, ran, faults = known_commands(), known_verbs(), 0, []
    for path in pages():
        page = path.read_text(encoding="utf-8")
        wrong = [*broken_links(page, path.parent), *unknown_commands(page, known, verbs)]
        if "--fast" not in sys.argv:
            wrong += failures(page)
            ran += len(runnable(page))
        faults += [f"{path.relative_to(ROOT)}: {fault}" for fault in wrong]
    for fault in faults:
        print(fault)
    print(f"{len(pages())} pages, {len(known)} commands, {ran} blocks run, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
