"""The ``monitoring`` section of a policy: which changes count as drift, and what quality means."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from mendel.drift.features import FeatureType
from mendel.errors import InvalidPolicy


class Task(StrEnum):
    """The kind of a model's answer: a class, or a number."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class LogRule(StrEnum):
    """What the prediction log stores of a feature: its value, a hash of its value, or nothing."""

    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"


class Band(StrEnum):
    """The amount of drift in a window; ``unknown``, when it could not be measured, does not count as normal."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectThresholds:
    """
    The thresholds of effect sizes: a smaller change never counts as drift.

    For numbers the leading effect size is ``wasserstein``, in standard deviations of the reference; for categories it
    is ``js``, the Jensen-Shannon distance. ``psi``, over about ten groups of cells, and ``kl`` are optional: unless
    None, they must exceed their thresholds too.
    """

    wasserstein: float = 0.1
    js: float = 0.1
    psi: float | None = 0.2
    kl: float | None = None

    def __post_init__(self) -> None:
        floors = {"wasserstein": self.wasserstein, "js": self.js, "psi": self.psi, "kl": self.kl}
        for name, floor in floors.items():
            if floor is not None and not floor >= 0:
                raise InvalidPolicy(f"effects.{name} is {floor}; it must be at least 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRule:
    """
    The settings of one feature.

    ``type`` None infers the type from the training data.
    """

    type: FeatureType | None = None
    log: LogRule = LogRule.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringPolicy:
    """
    How drift and quality of a model are monitored.

    Args:
        reference: The source of the reference rows; None takes the version's training data.
        target: The column that the model predicts.
        task: The kind of the model's answer: ``classification`` or ``regression``.
        positive_label: The class that counts as positive; None averages over classes (macro).
        primary_metric: The metric that measures quality; None takes F1 for classification, RMSE for regression.
        every: The interval between two evaluations.
        lookback: The length of the evaluated window.
        min_rows: The smallest number of rows that is evaluated.
        alpha: The significance level: p-values below it, corrected over all tests of a window, count as a change.
        effects: The effect sizes that a change must exceed to count as drift.
        confirm: The number of consecutive windows in which drift must be found.
        drift_share: The share of drifted features from which the band is ``warning`` and drift is detected.
        critical_share: The share of drifted features above which the band is ``critical``.
        quality_margin: How far the primary metric may be worse than in the reference without a signal.
        features: Settings of single features by name.
        segments: Cuts of numeric features, which divide rows into segments for quality per segment.
    """

    reference: str | None = None
    target: str | None = None
    task: Task = Task.CLASSIFICATION
    positive_label: str | int | bool | None = None
    primary_metric: str | None = None
    every: timedelta = timedelta(minutes=5)
    lookback: timedelta = timedelta(hours=24)
    min_rows: int = 200
    alpha: float = 0.05
    effects: EffectThresholds = EffectThresholds()
    confirm: int = 2
    drift_share: float = 0.3
    critical_share: float = 0.5
    quality_margin: float = 0.01
    features: dict[str, FeatureRule] = field(default_factory=dict)
    segments: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InvalidPolicy(f"alpha is {self.alpha}; it must be above 0 and below 1.")
        if not 0 < self.drift_share <= self.critical_share <= 1:
            raise InvalidPolicy(
                f"drift_share is {self.drift_share} and critical_share is {self.critical_share}; both must be above 0 "
                "and at most 1, and drift_share must not exceed critical_share."
            )
        if self.min_rows < 1 or self.confirm < 1:
            raise InvalidPolicy(f"min_rows is {self.min_rows} and confirm is {self.confirm}; both must be at least 1.")
        if self.every <= timedelta(0) or self.lookback <= timedelta(0) or self.quality_margin < 0:
            raise InvalidPolicy("every and lookback must be longer than 0, and quality_margin must be at least 0.")

    @property
    def types(self) -> dict[str, FeatureType]:
        """The feature types that the policy sets, for :meth:`Reference.fit`."""
        return {name: rule.type for name, rule in self.features.items() if rule.type is not None}

    @property
    def metric(self) -> str:
        """The name of the primary metric; the task's default if the policy names no metric."""
        return self.primary_metric or ("f1" if self.task is Task.CLASSIFICATION else "rmse")
