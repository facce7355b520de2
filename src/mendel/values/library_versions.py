"""Compare the library versions that wrote a model with those that are installed here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

_ALSO_AS: Final = {
    "mlflow-skinny": ("mlflow",),
    "onnxruntime": ("onnxruntime-gpu",),
    "xgboost": ("xgboost-cpu",),
}
"""Distributions that install the same modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryVersion:
    """
    The version of a library that wrote a model, and the version that is installed here.

    Attributes:
        running: None when the library is not installed.
    """

    name: str
    written: str
    running: str | None

    def __str__(self) -> str:
        return f"{self.name} {self.written} (here {self.running or 'none'})"


def installed_version(distribution: str) -> str | None:
    """Give the installed version of *distribution*, or of Python for ``python``; None when it is not installed."""
    if distribution == "python":
        return platform.python_version()
    for name in (distribution, *_ALSO_AS.get(distribution, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def differing_libraries(written: Mapping[str, str]) -> tuple[LibraryVersion, ...]:
    """List the libraries of *written* whose installed version differs; the patch version of Python is ignored."""
    compared = (
        LibraryVersion(name=name, written=number, running=installed_version(name)) for name, number in written.items()
    )
    return tuple(one for one in compared if _shown(one.name, one.written) != _shown(one.name, one.running))


def _shown(name: str, number: str | None) -> str | None:
    return ".".join(number.split(".")[:2]) if name == "python" and number is not None else number
