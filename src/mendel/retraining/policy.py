"""When and from what a model is retrained: the ``retraining`` section of a policy."""

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
    Read a size as people write it.

    >>> parse_bytes("4GiB") == 4 * 2**30
    True
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise InvalidPolicy(f"{text!r} is not a size.", remedy="Write a number and KiB, MiB, GiB or TiB: 512MiB, 4GiB.")
    return int(float(found.group(1)) * _UNITS[found.group(2)])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """What one job of the runner may use; ``memory`` is written ``4GiB``."""

    memory: str = "4GiB"
    time: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        _ = self.limits  # refuses nonsense at birth

    @property
    def limits(self) -> Limits:
        """The same as the runner takes it."""
        return Limits(memory_bytes=parse_bytes(self.memory), time=self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingPolicy:
    """
    How a model is retrained.

    Attributes:
        module: The module of the project that trains.
        function: Its function, ``function(frame, *, target, seed)``.
        load: A function of the same module, ``load(until)``, that gives the base rows in place of the stored ones.
        triggers: What starts a run without being asked by a person.
        schedule: A cron line, for the trigger of that name.
        min_labels: Fewest labelled rows since the change, or in the window.
        min_coverage: Smallest share of these rows that has labels.
        window: How far back labelled predictions are taken.
        runner: Where jobs run.
        limits: What a job may use.
        shadow: How long the candidate serves as shadow before the gates look; only 0 is supported.
        evaluation_share: Which share of the labelled rows, the latest, is kept for the gates and never trained on.
        keep_base: Whether the base training rows are trained on again, beside the new ones. They are by default: rare
            classes and quiet corners are seldom in the newest rows. A model whose old rows contradict the new ones
            (the world changed, not the instrument) does better without.
        include_simulated: Whether rows marked as simulated are trained on and judged by.
        seed: What the training function is given.
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
            raise InvalidPolicy(f"retraining.evaluation_share is a fraction in (0, 1), not {self.evaluation_share}.")
        if not 0 <= self.min_coverage <= 1:
            raise InvalidPolicy(f"retraining.min_coverage is a fraction, not {self.min_coverage}.")
        if self.min_labels < 1 or self.window <= timedelta(0):
            raise InvalidPolicy(
                f"retraining.min_labels is {self.min_labels} and must be at least 1; "
                f"retraining.window is {self.window} and must be above 0."
            )
        if self.shadow:
            remedy = "Leave retraining.shadow at 0; the gates judge by replay."
            raise InvalidPolicy(
                "retraining.shadow: serving a candidate as shadow first is not supported.", remedy=remedy
            )
