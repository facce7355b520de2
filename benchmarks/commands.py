"""
Measure short commands as whole processes: help, release status, a release tag.

    python benchmarks/commands.py [--runs 9]

The script prints one table: the CPU time (user and system, git included) and the wall time of each command, minimum
and median of several runs. On a busy machine the CPU time is the figure to compare. benchmarks/images.py measures
`mendel build`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

MENDEL = str(Path(sys.executable).parent / "mendel")
PREDICTOR = "class Answers:\n    def predict(self, rows):\n        return rows\n"
CLASSIFIERS, TAGS = 100, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The CPU time and the wall time of one process, in seconds."""

    cpu: float
    wall: float


def spent(command: list[str], directory: Path) -> Spent:
    """Run a command, and give what it and its children spent."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall=wall)


def git(directory: Path, *arguments: str, given: str = "") -> str:
    """Run git with an author and without the configuration of this machine."""
    author = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    done = subprocess.run(
        ["git", *author, *arguments], cwd=directory, input=given, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def repository(directory: Path, configuration: str) -> Path:
    """A repository of one commit."""
    directory.mkdir()
    (directory / "mlserver.yaml").write_text(configuration)
    (directory / "answers.py").write_text(PREDICTOR)
    git(directory, "init", "-q")
    for name in ("name", "email"):
        git(directory, "config", f"user.{name}", "bench@example.com")
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "first")
    return directory


def with_many_tags(directory: Path) -> Path:
    """A repository of 100 classifiers with 100 releases each, as a clone has them, and a commit after all of them."""
    body = "  predictor: {module: answers, class_name: Answers}\n"
    many = repository(directory, "classifiers:\n" + "".join(f"  c{n:03}:\n  {body}" for n in range(CLASSIFIERS)))
    names = (f"c{n:03}-v0.{v}.0-mlserver-0123456" for n in range(CLASSIFIERS) for v in range(TAGS // CLASSIFIERS))
    head = git(many, "rev-parse", "HEAD")
    git(
        many,
        "fast-import",
        "--quiet",
        given="".join(f"tag {name}\nfrom {head}\ntagger a <a@example.com> 1 +0000\ndata 2\nx\n\n" for name in names),
    )
    git(many, "pack-refs", "--all")
    (many / "answers.py").write_text(f"{PREDICTOR}# changed\n")
    git(many, "commit", "-q", "-a", "-m", "second")
    return many


def measured(room: Path, runs: int) -> Iterator[tuple[str, list[Spent], str]]:
    """Each command, what its runs spent, and the bound of its wall time on a quiet machine."""
    small = repository(room / "small", "classifier: {name: small}\npredictor: {module: answers, class_name: Answers}\n")
    many = with_many_tags(room / "many")
    for words, place, what, bound in (
        (["--help"], small, "mendel --help", ""),
        (["list-classifiers"], small, "mendel list-classifiers", ""),
        (["tag"], small, "mendel tag", "< 0.25 s"),
        (["tag", "patch"], small, "mendel tag patch", "< 0.5 s"),
        (["tag"], many, f"mendel tag, {CLASSIFIERS} classifiers, {TAGS:,} tags", "< 0.4 s"),
    ):
        spent([MENDEL, *words], place)
        yield what, [spent([MENDEL, *words], place) for _ in range(runs)], bound


def main() -> None:
    """Run every command, then print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=9)
    chosen = options.parse_args()
    table = Table("Command", "CPU min", "median", "Wall min", "median", "Bound (wall)", title="Commands")
    with tempfile.TemporaryDirectory(prefix="mendel-bench-") as room:
        for what, runs, bound in measured(Path(room), chosen.runs):
            figures = [figure for one in ("cpu", "wall") for figure in _range([getattr(run, one) for run in runs])]
            table.add_row(what, *figures, bound)
    Console(width=110).print(table)


def _range(seconds: list[float]) -> tuple[str, str]:
    return f"{min(seconds):.2f} s", f"{median(seconds):.2f} s"


if __name__ == "__main__":
    main()
