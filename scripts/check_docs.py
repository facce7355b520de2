"""Check the documentation: every relative link leads somewhere, every `mendel` command it shows exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|\$ |`)(?:\.venv/bin/)?mendel ((?:[a-z][a-z-]+ ?){1,2})", re.MULTILINE)


def pages() -> list[Path]:
    """Every Markdown page of the repository."""
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


def broken_links(page: Path) -> list[str]:
    """Relative links of *page* that lead nowhere."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    return [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (page.parent / t).exists()]


def commands(page: Path) -> set[tuple[str, ...]]:
    """The `mendel` commands that *page* shows, as words."""
    return {tuple(found.split()) for found in COMMAND.findall(page.read_text(encoding="utf-8"))}


def known_commands() -> set[tuple[str, ...]]:
    """Every command of the CLI, groups included, from its own tree."""
    script = "from mendel.app.cli.main import command_names; print('\\n'.join(' '.join(n) for n in command_names()))"
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # noqa: S603
    return {tuple(line.split()) for line in told.stdout.splitlines()}


def main() -> int:
    """Print what is wrong; 1 when something is."""
    known = known_commands()
    faults = [
        f"{page.relative_to(ROOT)}: link to {link} leads nowhere" for page in pages() for link in broken_links(page)
    ]
    for page in pages():
        faults += [
            f"{page.relative_to(ROOT)}: there is no command 'mendel {' '.join(words)}'"
            for words in sorted(commands(page))
            if words not in known and words[:1] not in known
        ]
    for fault in faults:
        print(fault)
    print(f"{len(pages())} pages, {len(known)} commands, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
