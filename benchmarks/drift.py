"""
Measure the time of drift detection over a million rows of twenty features, and the same for other installed libraries.

    python benchmarks/drift.py [--rows 1000000] [--features 20]

The script prints one table with the median of five runs in milliseconds. The other libraries run on the same arrays,
column by column, with their default settings; the table names libraries that are not installed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from mendel.drift import MonitoringPolicy, Profile, Reference, compare, merge_profiles
from mendel.values import Table

REFERENCE_ROWS = 100_000
SEGMENTS = 120
OWN_RUNS = 5
PEER_RUNS = 1


def timed(work: Callable[[], object], runs: int) -> float:
    """Give the median time of *work* in milliseconds."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return median(seconds) * 1000


def rows_of(rng: np.random.Generator, rows: int, features: int) -> Table:
    """Make rows in which half of the features are normal and half are log-normal, with a long tail."""
    kinds = (rng.standard_normal, rng.lognormal)
    return Table({f"f{n}": kinds[n % 2](size=rows) for n in range(features)})


def own(reference_rows: Table, current: Table) -> list[tuple[str, str, float]]:
    """Time Mendel's drift detection step by step."""
    policy = MonitoringPolicy()
    reference = Reference.fit(reference_rows)
    profile = Profile.of(reference, current)
    cuts = np.linspace(0, len(current), SEGMENTS + 1).astype(int)
    parts = [Profile.of(reference, current.take(slice(*ends))) for ends in pairwise(cuts)]
    texts = [part.to_json() for part in parts]
    compare(reference, profile, policy)  # imports scipy.special, once per process
    return [
        ("mendel", "fit the reference", timed(lambda: Reference.fit(reference_rows), OWN_RUNS)),
        ("mendel", "from raw rows", timed(lambda: compare(reference, current, policy), OWN_RUNS)),
        ("mendel", "from one profile", timed(lambda: compare(reference, profile, policy), OWN_RUNS)),
        (
            "mendel",
            f"from {SEGMENTS} segments' profiles",
            timed(lambda: compare(reference, merge_profiles(reference, parts), policy), OWN_RUNS),
        ),
        (
            "mendel",
            "the same, read from JSON",
            timed(
                lambda: compare(reference, merge_profiles(reference, list(map(Profile.from_json, texts))), policy),
                OWN_RUNS,
            ),
        ),
    ]


def scipy_peer(reference: Table, current: Table) -> float:
    """Kolmogorov-Smirnov and Wasserstein on raw rows, column by column."""
    from scipy.stats import ks_2samp, wasserstein_distance  # noqa: PLC0415 - a peer, imported where it runs

    def work() -> None:
        for name in reference.names:
            ks_2samp(reference[name], current[name], method="asymp")
            wasserstein_distance(reference[name], current[name])

    return timed(work, PEER_RUNS)


def evidently_peer(reference: Table, current: Table) -> float:
    """The default preset."""
    import pandas as pd  # noqa: PLC0415 - a peer, imported where it runs
    from evidently import Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    frames = [pd.DataFrame(dict(table.columns)) for table in (current, reference)]
    return timed(lambda: Report([DataDriftPreset()]).run(*frames), PEER_RUNS)


def alibi_peer(reference: Table, current: Table) -> float:
    """Kolmogorov-Smirnov."""
    from alibi_detect.cd import KSDrift  # noqa: PLC0415 - a peer, imported where it runs

    arrays = [np.column_stack([table[name] for name in table.names]) for table in (reference, current)]
    return timed(lambda: KSDrift(arrays[0]).predict(arrays[1]), PEER_RUNS)


PEERS: tuple[tuple[str, str, Callable[[Table, Table], float]], ...] = (
    ("scipy", "KS and Wasserstein", scipy_peer),
    ("evidently", "default preset", evidently_peer),
    ("alibi_detect", "KSDrift", alibi_peer),
)


def main() -> None:
    """Measure, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--features", type=int, default=20)
    chosen = arguments.parse_args()
    rng = np.random.default_rng(0)
    before, after = (rows_of(rng, rows, chosen.features) for rows in (REFERENCE_ROWS, chosen.rows))
    results = own(before, after)
    missing = []
    for name, what, peer in PEERS:
        if find_spec(name) is None:
            missing.append(name)
        else:
            results.append((name, what, peer(before, after)))
    printed = Printed("what", "how", "ms", title=f"drift, {chosen.rows:,} rows x {chosen.features} features")
    for name, what, milliseconds in results:
        printed.add_row(name, what, f"{milliseconds:,.1f}")
    console = Console()
    console.print(printed)
    if missing:
        console.print(f"Not installed here, so not measured: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
