"""The ``retraining`` section of a policy: when and with which rows a model is retrained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from mendel.errors import InvalidPolicy
from mendel.retraining.ports import Limits

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|TiB)")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_bytes(text: str) -> int:
    """
    Parse a size with a unit.

    >>> parse_bytes("4GiB") == 4 * 2**30
    True
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise InvalidPolicy(
            f"{text!r} is not a memory size.", remedy="Write a number and KiB, MiB, GiB or TiB, for example 4GiB."
        )
    return int(float(found.group(1)) * _UNITS[found.group(2)])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """The limits of one job of the runner; ``memory`` is written like ``4GiB``."""

    memory: str = "4GiB"
    time: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        _ = self.limits  # raises for invalid limits

    @property
    def limits(self) -> Limits:
        return Limits(memory_bytes=parse_bytes(self.memory), time=self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingPolicy:
    """
    How a model is retrained.

    Attributes:
        module: The module of the project with the training function.
        function: The training function, ``function(frame, *, target, seed)``.
        load: The name of a function ``load(until)`` in the same module that gives the base rows instead of the stored
            rows.
        triggers: The triggers that start a run automatically.
        schedule: A cron expression for the trigger ``schedule``.
        min_labels: The smallest number of labelled rows since the change, or in the window.
        min_coverage: The smallest share of these rows that must have labels.
        window: The age of the oldest labelled predictions that are used.
        runner: The runner that executes the jobs.
        limits: The memory and time limits of a job.
        shadow: How long the candidate serves as shadow before it is judged; only 0 is supported.
        evaluation_share: The share of the labelled rows, the latest ones, that is kept for evaluation and never trained
            on.
        keep_base: Whether a retraining uses the base training rows together with the new rows. The default is true,
            because rare classes are seldom among the newest rows. Use false when the old rows contradict the new ones.
        include_simulated: Whether rows marked as simulated are used for training and evaluation.
        seed: The random seed for the training function.
    """

    module: str = "training"
    function: str = "train"
    load: str | None = None
    triggers: tuple[Literal["drift", "quality", "schedule"], ...] = ("drift", "quality", "schedule")
    schedule: str | None = None
    min_labels: int = 200
    min_coverage: float = 0.30
    window: timedelta = timedelta(days=30)
    runner: Literal["subprocess"] = "subprocess"
    limits: JobLimits = JobLimits()
    shadow: timedelta = timedelta(0)
    evaluation_share: float = 0.5
    keep_base: bool = True
    include_simulated: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.evaluation_share < 1:
            raise InvalidPolicy(
                f"retraining.evaluation_share must be above 0 and below 1, not {self.evaluation_share}."
            )
        if not 0 <= self.min_coverage <= 1:
            raise InvalidPolicy(f"retraining.min_coverage must be from 0 to 1, not {self.min_coverage}.")
        if self.min_labels < 1 or self.window <= timedelta(0):
            raise InvalidPolicy(
                f"retraining.min_labels must be at least 1 (it is {self.min_labels}), "
                f"and retraining.window must be above 0 (it is {self.window})."
            )
        if self.shadow:
            remedy = "Set retraining.shadow to 0, or remove the key."
            raise InvalidPolicy("retraining.shadow is above 0, which is not supported.", remedy=remedy)
