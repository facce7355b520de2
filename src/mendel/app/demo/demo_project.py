"""The demo's project in a new git repository, its data rows, and the simulated drift of some columns."""

from __future__ import annotations

import shutil
import subprocess
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mendel.adapters.arrow import read_table, write_table
from mendel.app.demo.door_clients import Row
from mendel.errors import InvalidInput, Unsupported
from mendel.values import Table

Column = np.ndarray[Any, Any]
_STORY_ROWS = 4000
_SHIFTED_SHARE = 0.5
_LEAST_ROWS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """
    The project and the data of the demo.

    Attributes:
        project: The directory of the project's git repository.
        classifier: The name of the classifier, and of its model.
        base: The training rows of version 1, including the target.
        stream: Rows that no version was trained on, each to be sent once.
        target: The column to predict.
        shifted: The columns that drift, each with the offset and the gain that turn its old values into new values.
        source: A description of the rows for the output.
    """

    project: Path
    classifier: str
    base: Path
    stream: Table
    target: str
    shifted: dict[str, tuple[float, float]]
    source: str

    def rows(self) -> Rows:
        """Give the rows of the stream in the form of requests."""
        return Rows(self)


class Rows:
    """Gives the rows of the stream, each once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._next = 0

    @property
    def left(self) -> int:
        """The number of rows that were not taken yet."""
        return len(self._world.stream) - self._next

    def take(self, count: int, *, recalibrated: bool = False) -> list[tuple[Row, Any]]:
        """Take the next *count* rows (fewer at the end), each with its true label; *recalibrated* applies the drift."""
        chosen = self._world.stream.take(np.arange(self._next, min(self._next + count, len(self._world.stream))))
        self._next += len(chosen)
        return list(self._requests(chosen, recalibrated=recalibrated))

    def give_back(self, count: int) -> None:
        """Put the last *count* rows back, because they were not sent."""
        self._next -= count

    def again(self, count: int = 70) -> list[tuple[Row, Any]]:
        """Give the last *count* taken rows again, with drift; do not use them where rows must be counted once."""
        chosen = np.arange(max(0, self._next - count), self._next)
        return list(self._requests(self._world.stream.take(chosen), recalibrated=True))

    def _requests(self, table: Table, *, recalibrated: bool) -> Iterator[tuple[Row, Any]]:
        world = self._world
        columns = {}
        for name in table.names:
            column = table[name]
            if recalibrated and name in world.shifted:
                offset, gain = world.shifted[name]
                column = offset + gain * column
            columns[name] = [_json_value(value) for value in column.tolist()]
        truths = columns.pop(world.target)
        for place, truth in enumerate(truths):
            yield {name: values[place] for name, values in columns.items()}, truth


def make_project(directory: Path, target: str | None) -> Path:
    """
    Make the project's git repository in *directory*, and give its path.

    Args:
        target: The column to predict in a table; None makes the project of the handwritten digits.
    """
    example = "digits" if target is None else "table"
    project = directory / example
    shutil.copytree(_examples() / example, project, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    if target is not None:
        _set_target(project, target)
    _commit(project)
    return project


def digits_world(project: Path) -> World:
    """Make the data from scikit-learn's 1,797 handwritten digits, classified as even or odd."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second
    from sklearn.utils import shuffle  # noqa: PLC0415

    digits = load_digits()
    pixels, numbers = shuffle(digits.data, digits.target, random_state=0)
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    table = Table({name: pixels[:, place] for place, name in enumerate(names)})
    table = table.with_columns({"even": (numbers % 2 == 0).astype(np.float64)})
    middle = {f"pixel_{row}_{column}": (8.0, 0.5) for row in range(2, 6) for column in range(8)}
    return _world(
        project,
        table,
        "even",
        base_rows=460,
        shifted=middle,
        source="1,797 handwritten digits (scikit-learn), even or odd",
    )


def table_world(project: Path, file: Path, target: str) -> World:
    """
    Make the data from a table; frequent classes are reduced, so that the classes are nearly balanced.

    Args:
        file: A Parquet or CSV file.
        target: The column to predict.

    Raises:
        InvalidInput: The target column is missing, the table has too few rows, or no numeric column can drift.
    """
    table = read_table(file)
    unnamed = [name for name in table.names if not name.strip() or name.startswith("Unnamed")]
    table = table.without(*unnamed)
    if target not in table:
        raise InvalidInput(
            f"The table {file.name} has no target column {target!r}.",
            remedy=f"Choose one of its columns: {', '.join(table.names)}.",
        )
    if len(table) < _LEAST_ROWS:
        raise InvalidInput(
            f"The table {file.name} has {len(table)} rows; the demo needs {_LEAST_ROWS}, as it uses each row once.",
            remedy="Give a longer table, or no table to use the handwritten digits.",
        )
    table = table.take(_evened(table[target], np.random.default_rng(0)))
    return _world(
        project,
        table,
        target,
        base_rows=len(table) // 3,
        shifted=_reversible(table, target),
        source=f"{len(table):,} rows of {file.name}, target {target}, classes balanced as far as possible",
    )


def _world(
    project: Path, table: Table, target: str, *, base_rows: int, shifted: dict[str, tuple[float, float]], source: str
) -> World:
    from mendel.projects import load_project  # noqa: PLC0415 - where a project is at hand

    base = project.parent / "base.csv"
    write_table(table.take(np.arange(base_rows)), base)
    return World(
        project=project,
        classifier=load_project(project).names[0],
        base=base,
        stream=table.take(np.arange(base_rows, len(table))),
        target=target,
        shifted=shifted,
        source=source,
    )


def _evened(truth: Column, rng: np.random.Generator) -> Column:
    """Choose row positions in random order, with as many rows of each frequent class as the rarer classes have."""
    order = rng.permutation(len(truth))
    _, member, counts = np.unique(truth[order].astype(str), return_inverse=True, return_counts=True)
    most = 1 + bisect_left(range(1, int(counts.max())), _STORY_ROWS, key=lambda cap: np.minimum(counts, cap).sum())
    kept = [order[member == one][:most] for one in range(len(counts))]
    return rng.permutation(np.concatenate(kept))


def _reversible(table: Table, target: str) -> dict[str, tuple[float, float]]:
    """Choose the numeric columns that predict the target best; give the offset and gain that reverse each column."""
    _, truth = np.unique(table[target].astype(str), return_inverse=True)
    strength: dict[str, float] = {}
    reversal: dict[str, tuple[float, float]] = {}
    for name in table.names:
        column = table[name]
        if name == target or column.dtype.kind != "f" or np.isnan(column).any():
            continue
        low, high = (float(bound) for bound in np.quantile(column, [0.0, 0.99]))
        if high > low:
            ranks = np.argsort(np.argsort(column))
            strength[name] = abs(float(np.corrcoef(ranks, truth)[0, 1]))
            reversal[name] = (low + high, -1.0)
    if not strength:
        raise InvalidInput(
            "The table has no numeric column without missing values, so the demo cannot simulate drift.",
            remedy="Give a table with a numeric column without missing values.",
        )
    ordered = sorted(strength, key=lambda name: -strength[name])
    chosen = ordered[: max(1, round(len(ordered) * _SHIFTED_SHARE))]
    return {name: reversal[name] for name in chosen}


def _examples() -> Path:
    inside = Path(str(resources.files("mendel"))) / "examples"
    beside = Path(__file__).resolve().parents[4] / "examples"
    found = next((place for place in (inside, beside) if place.is_dir()), None)
    if found is None:
        raise Unsupported(
            "The example projects are not installed.", remedy="Install mendel from its wheel or checkout."
        )
    return found


def _set_target(project: Path, target: str) -> None:
    file = project / "mlserver.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    document["monitoring"]["target"] = target
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _commit(project: Path) -> None:
    """Create the git repository and commit all files, with a configured author because git may have none."""
    author = (["config", "user.name", "Demo"], ["config", "user.email", "demo@example.org"])
    for arguments in (["init", "-q", "-b", "main"], *author, ["add", "-A"], ["commit", "-q", "-m", "A classifier"]):
        subprocess.run(["git", *arguments], cwd=project, check=True)  # noqa: S603, S607 - git, from PATH


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    return value
