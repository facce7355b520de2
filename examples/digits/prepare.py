"""
Writes the digits as a table: 64 columns pixel_<row>_<column> (0 to 16) and `even` (1 or 0).

    python prepare.py digits.csv            all rows, shuffled once and for all
    python prepare.py base.parquet --rows 500
    python prepare.py stream.csv --skip 500
"""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.utils import shuffle

PIXELS = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
TARGET = "even"


def dataset(seed=0):
    """All 1,797 rows in a shuffled order: the digits come sorted by writer."""
    digits = load_digits()
    pixels, numbers = shuffle(digits.data, digits.target, random_state=seed)
    return pixels, (numbers % 2 == 0).astype(int)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("--skip", type=int, default=0)
    options.add_argument("--rows", type=int)
    chosen = options.parse_args()
    pixels, even = dataset()
    end = None if chosen.rows is None else chosen.skip + chosen.rows
    frame = pd.DataFrame(pixels, columns=PIXELS).assign(**{TARGET: even})[chosen.skip : end]
    if chosen.file.suffix == ".parquet":
        frame.to_parquet(chosen.file, index=False)
    else:
        frame.to_csv(chosen.file, index=False)


if __name__ == "__main__":
    main()
