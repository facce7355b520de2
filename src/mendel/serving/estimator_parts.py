"""Find the column names of a fitted estimator, and whether it accepts an array instead of a data frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

_BY_NAME: Final = frozenset({"ColumnTransformer", "FunctionTransformer"})
_NAME_ARRAYS: Final = frozenset({"lightgbm", "xgboost", "catboost", "mendel"})
"""The libraries that name the columns of an array themselves; ``mendel`` for our own wrappers of their boosters."""
_GENERATED_NAMES: Final = ("Column_{}", "f{}", "{}")


def fitted_names(model: Any, given: Sequence[str] = ()) -> tuple[str, ...] | None:
    """
    Give the names of the columns that *model* was fitted on; None for a model that was fitted on an array.

    Args:
        given: The column names of the data frame that the caller gave with the model. LightGBM, XGBoost and CatBoost
            invent names for the columns of an array: invented names count only if the data frame has the same names.
            LightGBM also replaces spaces in names by underscores.
    """
    library = type(model).__module__.partition(".")[0]
    for attribute in ("feature_names_in_", "feature_names_"):
        try:
            names = getattr(model, attribute, None)
        except (AttributeError, ValueError, RuntimeError):  # XGBoost and CatBoost raise for a model without names
            continue
        if names is None or isinstance(names, str) or not len(names) or not all(isinstance(n, str) for n in names):
            continue
        found = tuple(map(str, names))
        if library in {"lightgbm", "mendel"}:
            spelt = {name.replace(" ", "_"): name for name in given}
            found = tuple(spelt.get(name, name) for name in found)
        if set(found) == set(given) or not _generated(library, found):
            return found
    return None


def answers_arrays_alike(model: Any) -> bool:
    """
    Tell whether *model* first converts a numeric data frame to an array, so that it may receive the array directly.

    True for scikit-learn's own estimators, unless a part of *model* selects columns by name, calls a function of the
    user, or is configured to output data frames.
    """
    return all(
        type(part).__module__.partition(".")[0] == "sklearn"
        and type(part).__name__ not in _BY_NAME
        and not vars(part).get("_sklearn_output_config")
        for part in estimator_parts(model)
    )


def forget_names(model: Any) -> None:
    """Delete the column names, so that scikit-learn takes arrays without a warning per call."""
    for part in estimator_parts(model):
        part.__dict__.pop("feature_names_in_", None)


def estimator_parts(model: Any) -> list[Any]:
    """Give *model* and every estimator inside it, each once."""
    found: dict[int, Any] = {}
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif hasattr(part, "get_params") and hasattr(part, "__dict__") and id(part) not in found:
            found[id(part)] = part
            waiting.extend(vars(part).values())
    return list(found.values())


def _generated(library: str, names: Sequence[str]) -> bool:
    """Tell whether *library* invented the column names because the model was fitted on an array."""
    return library in _NAME_ARRAYS and any(
        all(name == made.format(place) for place, name in enumerate(names)) for made in _GENERATED_NAMES
    )
