"""Write requirements.txt, python_env.yaml and conda.yaml as MLflow does, and the section for MLflow's loader."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final

import yaml

from mendel.values.library_versions import installed_version

PYTHON_FUNCTION: Final = "python_function"
"""The section by which ``mlflow.pyfunc.load_model`` finds the loader of a model."""

_ENVIRONMENT: Final = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
_REQUIREMENTS: Final = "requirements.txt"
_QUICK: Final = {"numpy": "numpy", "pandas": "pandas", "scipy": "scipy", "sklearn": "scikit-learn"}
"""The distributions of the usual modules: asking for all installed distributions takes half a second."""


def write_environment(directory: Path, distributions: Iterable[str], modules: Iterable[str] = ()) -> None:
    """
    Write the environment files into *directory*.

    Args:
        distributions: The names of the distributions that loading the model needs; distributions that are not installed
            are left out.
        modules: Top-level modules that the model imports; their distributions are added.
    """
    names = {*distributions, *(name for module in modules for name in _distributions_of(module))}
    pinned = [f"{name}=={number}" for name in sorted(names) if (number := installed_version(name)) is not None]
    (directory / _REQUIREMENTS).write_text("".join(f"{line}\n" for line in pinned), encoding="utf-8")
    python = platform.python_version()
    build = {"python": python, "build_dependencies": ["pip"], "dependencies": [f"-r {_REQUIREMENTS}"]}
    conda: Mapping[str, Any] = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": pinned}],
    }
    for name, content in ((_ENVIRONMENT["virtualenv"], build), (_ENVIRONMENT["conda"], conda)):
        (directory / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def python_function(loader_module: str, **keys: Any) -> dict[str, Any]:
    """Give the section ``python_function`` of a model that MLflow's *loader_module* loads."""
    return {
        "loader_module": loader_module,
        "env": dict(_ENVIRONMENT),
        "python_version": platform.python_version(),
        **keys,
    }


def _distributions_of(module: str) -> Iterable[str]:
    if module in _QUICK:
        return (_QUICK[module],)
    return _all_distributions().get(module, ())


@cache
def _all_distributions() -> Mapping[str, list[str]]:
    return packages_distributions()
