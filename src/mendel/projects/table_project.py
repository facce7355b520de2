"""Generate the files of a project that learns one column of a table from the others; nothing is written to disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

import yaml

from mendel.errors import InvalidInput
from mendel.projects.project_file import FILE
from mendel.projects.project_scaffold import NewFile, checked_class_name, filled, name_as_yaml
from mendel.values import ModelName, Table, from_micros
from mendel.values.data_frames import is_null

TaskName = Literal["classification", "regression"]
_MOST_CLASSES: Final = 100
_MOST_NUMBERS: Final = 10
"""A target of at most so many different whole numbers is taken for classes."""
_SHOWN: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The features of a table by how they are prepared, each in the table's order."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    dates: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every feature."""
        return (*self.numbers, *self.categories, *self.dates)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTask:
    """
    What a model of the target does.

    Attributes:
        reason: Why, in one sentence.
        positive: The class that counts as positive; None for regression and for more than two classes.
    """

    task: TaskName
    reason: str
    metric: str
    positive: str | int | bool | None = None


def columns_of(table: Table, times: frozenset[str], target: str) -> Columns:
    """
    Divide the columns of *table* except *target* by their kind.

    Args:
        times: The columns that hold dates or times.

    Raises:
        InvalidInput: The table has no column *target*, or no other column.
    """
    if target not in table:
        raise InvalidInput(
            f"The table has no column {target!r}.", remedy=f"Choose one of its columns: {', '.join(table.names)}."
        )
    rest = [name for name in table.names if name != target]
    if not rest:
        raise InvalidInput(f"The table has no column but {target!r}.", remedy="Give a table with features.")
    numbers = tuple(name for name in rest if name not in times and table[name].dtype.kind in "fiu")
    dates = tuple(name for name in rest if name in times)
    return Columns(
        numbers=numbers, dates=dates, categories=tuple(name for name in rest if name not in {*numbers, *dates})
    )


def task_of_target(table: Table, target: str, times: frozenset[str], task: TaskName | None = None) -> TargetTask:
    """
    Decide whether *target* is learnt by classification or regression.

    Text and truth values are classes; so are at most ten different whole numbers. Other numbers are regression.

    Args:
        task: The caller's choice; None decides.

    Raises:
        InvalidInput: The target is a date, has a single value, or does not fit the task.
    """
    values = [value for value in table[target].tolist() if not is_null(value)]
    counts = Counter(_plain(value) for value in values)
    if target in times:
        raise InvalidInput(f"The target {target!r} is a date.", remedy="Choose a target of numbers or classes.")
    if len(counts) < 2:  # noqa: PLR2004 - one value teaches nothing
        raise InvalidInput(f"The target {target!r} has {len(counts)} different values; a model needs two or more.")
    numeric = all(type(value) in {int, float} for value in counts)
    whole = numeric and all(type(value) is int for value in counts)
    if task == "regression" and not numeric:
        raise InvalidInput(f"The target {target!r} has text or truth values, which regression cannot learn.")
    if task is None:
        task = "classification" if not numeric or (whole and len(counts) <= _MOST_NUMBERS) else "regression"
    if task == "regression":
        return TargetTask(task=task, metric="rmse", reason=f"{target!r} has {len(counts)} different numbers")
    if numeric and not whole:
        raise InvalidInput(f"The target {target!r} has numbers with fractions, which are not classes.")
    if len(counts) > _MOST_CLASSES:
        raise InvalidInput(
            f"The target {target!r} has {len(counts)} different values; at most {_MOST_CLASSES} are taken for classes.",
            remedy="Choose another target, or group its values into fewer classes.",
        )
    listed = ", ".join(map(str, sorted(counts, key=str)[:_SHOWN])) + (", ..." if len(counts) > _SHOWN else "")
    reason = f"{target!r} has {len(counts)} classes: {listed}"
    if len(counts) > 2:  # noqa: PLR2004 - no class of several is the positive one
        return TargetTask(task=task, metric="balanced_accuracy", reason=reason)
    positive = max(counts) if numeric or bool in map(type, counts) else min(counts, key=lambda v: (counts[v], str(v)))
    return TargetTask(task=task, metric="f1", reason=reason, positive=positive)


def table_project_files(
    name: ModelName, predictor_class: str, *, source: str, table: Table, target: str, columns: Columns, task: TargetTask
) -> tuple[NewFile, ...]:
    """
    Generate the files of a project that learns *target* from the other *columns* of *table*.

    Args:
        source: The name of the file that holds the table.

    Raises:
        InvalidValue: *predictor_class* is not a valid class name.
    """
    kind = task.task
    words = {
        "@@NAME@@": name_as_yaml(name),
        "@@CLASS@@": checked_class_name(predictor_class),
        "@@DESCRIPTION@@": _yaml(f"Predicts {target} from {len(columns.all)} columns of {source}"),
        "@@TARGET@@": _yaml(target),
        "@@TASK@@": kind,
        "@@METRIC@@": task.metric,
        "@@POSITIVE@@": "" if task.positive is None else f"\n  positive_label: {_yaml(task.positive)}",
        "@@NUMBERS@@": _listed(columns.numbers),
        "@@CATEGORIES@@": _listed(columns.categories),
        "@@DATES@@": _listed(columns.dates),
        "@@TREES@@": "HistGradientBoostingClassifier" if kind == "classification" else "HistGradientBoostingRegressor",
        "@@SMOKE@@": json.dumps({"records": [_typical_row(table, columns)]}, ensure_ascii=False),
    }
    places = {
        FILE: "table_mlserver",
        "features.py": "table_features",
        "training.py": "table_training",
        "predictor.py": f"table_predictor_{kind}",
        "requirements.txt": "table_requirements",
        ".gitignore": "table_gitignore",
        f"smoke/{name}.json": "table_smoke",
    }
    folder = resources.files("mendel.projects").joinpath("templates")
    return tuple(
        NewFile(path=path, text=filled(folder.joinpath(f"{word}.template").read_text(encoding="utf-8"), words))
        for path, word in places.items()
    )


def _listed(names: Sequence[str]) -> str:
    return "[" + "".join(f"\n    {json.dumps(name, ensure_ascii=False)}," for name in names) + "\n]" if names else "[]"


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, width=1 << 16, allow_unicode=True).split("\n", 1)[0]


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _typical_row(table: Table, columns: Columns) -> dict[str, Any]:
    """Make a row of the most frequent value of each column."""
    row: dict[str, Any] = {}
    for name in table.names:
        if name in columns.all:
            counts = Counter(_plain(value) for value in table[name].tolist() if not is_null(value))
            value = max(counts, key=lambda one: (counts[one], str(one))) if counts else None
            row[name] = from_micros(int(value)).isoformat() if name in columns.dates and value is not None else value
    return row
