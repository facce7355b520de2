"""
Writes requests for quote as a table, and whether each was won. Made up, from a seed: the same bytes every time.

    python make_data.py rfq.csv --rows 4000 --seed 7
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

TARGET = "won"


def requests(rows=4000, seed=7):
    """The table: facts of request and market, the quote's edge over the next best in basis points, the outcome."""
    rng = np.random.default_rng(seed)
    tier = rng.integers(1, 4, rows)
    competitors = rng.integers(1, 7, rows)
    volatility = rng.gamma(4.0, 2.5, rows)
    table = pd.DataFrame(
        {
            "notional_musd": rng.lognormal(1.0, 0.9, rows).round(2),
            "maturity_years": rng.choice([2, 5, 7, 10, 20, 30], rows),
            "is_buy": rng.integers(0, 2, rows),
            "client_tier": tier,
            "competitors": competitors,
            "hour": rng.integers(8, 18, rows),
            "volatility_pct": volatility.round(2),
            "spread_bps": (0.4 + 0.08 * volatility + rng.exponential(0.3, rows)).round(3),
            "inventory_musd": rng.normal(0, 20, rows).round(2),
            "edge_bps": rng.normal(-0.2, 0.8, rows).round(3),
        }
    )
    axe = np.where(table["is_buy"] == 1, 1, -1) * table["inventory_musd"] / 20
    liking = 1.6 - 0.55 * competitors - 0.45 * (tier - 2) + 0.5 * axe - 0.35 * (table["spread_bps"] - 1.4)
    chance = 1 / (1 + np.exp(-(liking + 1.4 * table["edge_bps"])))
    return table.assign(**{TARGET: (rng.random(rows) < chance).astype(int)})


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("--rows", type=int, default=4000)
    options.add_argument("--seed", type=int, default=7)
    chosen = options.parse_args()
    requests(chosen.rows, chosen.seed).to_csv(chosen.file, index=False)


if __name__ == "__main__":
    main()
