"""
Measure the registry against its bounds, and print one table.

    .venv/bin/python benchmarks/registry/table.py

``register`` is one warm call of ``register_baseline`` into an embedded data directory with a model and an input
example, against MLflow's own call with the same in the same process, into a store of its own. The other figures are of
a registry of 100,000 versions over 1,000 models on SQLite, each measured over calls on random models, in this process.

To add a figure, write a function that gives its rows, and add it to :data:`MEASURES`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from figures import Figure, quantile
from filled_registry import FilledRegistry
from registering import mlflow_calls, own_calls


def registering(directory: Path, _: int) -> Iterator[Figure]:
    """One call, warm, against MLflow's own call."""
    own, theirs = own_calls(directory / "own", rows=False), mlflow_calls(directory / "mlflow")
    yield Figure("register, median", quantile(own, 0.5), "ms", bound=300)
    yield Figure("register with 1,000 rows, median", quantile(own_calls(directory / "rows", rows=True), 0.5), "ms")
    yield Figure("MLflow's log_model, median", quantile(theirs, 0.5), "ms")
    yield Figure(
        "register, times faster than MLflow", quantile(theirs, 0.5) / quantile(own, 0.5), "x", bound=20, least=True
    )


def looking_up(directory: Path, versions: int) -> Iterator[Figure]:
    """Lookups and promotions in a large registry."""
    with FilledRegistry(directory / "filled", versions=versions) as filled:
        yield Figure(f"bytes per version, of {filled.versions}", filled.bytes / filled.versions, "B")
        for name, call, count, bound in (
            ("version by uuid, p99", filled.by_uuid, 5_000, 5),
            ("production version, p99", filled.production, 5_000, 5),
            ("history, p99", filled.history, 5_000, 5),
            ("versions of a model, p99", filled.versions_of, 500, None),
        ):
            yield Figure(name, quantile(filled.timed(call, count), 0.99), "ms", bound=bound)
        for name, call in (("promotion, p95", filled.promote), ("rollback, p95", filled.roll_back)):
            yield Figure(name, quantile(filled.timed(call, 300), 0.95), "ms", bound=50)


MEASURES: Sequence[Callable[[Path, int], Iterator[Figure]]] = (registering, looking_up)


def main() -> None:
    """Print each figure as soon as it is measured; end with 1 if a bound does not hold."""
    warnings.simplefilter("ignore")
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    arguments.add_argument("--versions", type=int, default=100_000, help="versions in the registry (default 100000)")
    versions = arguments.parse_args().versions
    missed = 0
    print(f"{'what':44}{'measured':>12}{'bound':>12}")
    with tempfile.TemporaryDirectory() as scratch:
        for measure in MEASURES:
            for figure in measure(Path(scratch), versions):
                print(figure, flush=True)
                missed += not figure.holds
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
