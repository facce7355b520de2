"""What a fitted estimator tells about its input: column names, and whether an array is as good as a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

_BY_NAME: Final = frozenset({"ColumnTransformer", "FunctionTransformer"})
_GENERATED_NAMES: Final = ("Column_{}", "f{}", "{}")
"""How libraries name the columns of an array."""


def fitted_names(model: Any) -> tuple[str, ...] | None:
    """Give the names of the columns that *model* was fitted on; None for a model that was fitted on an array."""
    for attribute in ("feature_names_in_", "feature_names_"):
        try:
            names = getattr(model, attribute, None)
        except Exception:  # noqa: BLE001, S112 - a property of an unknown model: the next attribute may answer
            continue
        if names is None or isinstance(names, str) or not len(names):
            continue
        if all(isinstance(name, str) for name in names) and not _generated(names):
            return tuple(map(str, names))
    return None


def answers_arrays_alike(model: Any) -> bool:
    """
    Tell whether *model* converts a frame of numbers to an array itself, before anything else.

    True for scikit-learn's own estimators, except where a part selects columns by name, calls a function of the user,
    or is configured to pass frames on.
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


def _generated(names: Sequence[str]) -> bool:
    """Tell whether a library made the names because the model was fitted on an array."""
    return any(all(name == made.format(place) for place, name in enumerate(names)) for made in _GENERATED_NAMES)
