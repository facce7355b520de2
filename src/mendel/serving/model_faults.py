"""Describe exceptions of a model's code without their messages, which may contain values of training rows."""

from __future__ import annotations

from mendel.errors import ModelNotLoadable
from mendel.resilience import fault_of

_LONGEST = 2000


def not_loadable(doing: str, error: BaseException, *, remedy: str = "") -> ModelNotLoadable:
    """
    Convert *error* to ModelNotLoadable: type and code location in the message, the full text in ``detail``.

    >>> not_loadable("Reading the model", ValueError("age 41 is unknown")).message
    'Reading the model failed with ValueError.'
    """
    return ModelNotLoadable(f"{doing} failed with {place_of(error)}.", detail=words_of(error), remedy=remedy)


def place_of(error: BaseException) -> str:
    """Give the type of *error* and the code location, written as ``module:line function``."""
    fault = fault_of(error)
    place = fault.at.partition(" < ")[0]
    return f"{fault.kind} at {place}" if place else fault.kind


def words_of(error: BaseException) -> str:
    """Give the type and the message of *error*, shortened if they are long."""
    return f"{type(error).__name__}: {error}"[:_LONGEST]
