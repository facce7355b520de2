"""When a change counts as one: the ``monitoring`` section of a policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from mendel.drift.features import FeatureType
from mendel.errors import InvalidPolicy


class Task(StrEnum):
    """What a model answers: one of some classes, or a number."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class LogRule(StrEnum):
    """What the prediction log keeps of a feature."""

    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"


class Band(StrEnum):
    """How far a window has drifted; ``unknown`` where it could not be measured, which is not normal."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """
    How large a change must be, per statistic, to matter; None turns off the optional ones.

    Numbers are judged by ``wasserstein``, in standard deviations of the reference, categories by ``js``, the
    Jensen-Shannon distance. ``psi``, over about ten groups of cells, and ``kl`` must agree where they are named.
    """

    wasserstein: float = 0.1
    js: float = 0.1
    psi: float | None = 0.2
    kl: float | None = None

    def __post_init__(self) -> None:
        floors = {"wasserstein": self.wasserstein, "js": self.js, "psi": self.psi, "kl": self.kl}
        for name, floor in floors.items():
            if floor is not None and not floor >= 0:
                raise InvalidPolicy(f"effects.{name} is {floor}, which no distance can fall below.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRule:
    """What is set by hand for one feature; ``type`` None is inferred from the training data."""

    type: FeatureType | None = None
    log: LogRule = LogRule.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringPolicy:
    """
    How a model is watched.

    Args:
        reference: Where the reference rows come from, when not from the version's training data.
        target: The column that the model predicts.
        task: What the model answers.
        positive_label: The class that counts as positive; None averages over classes (macro).
        primary_metric: What quality means; None is F1 for classification, RMSE for regression.
        every: How often windows are looked at.
        lookback: How long a window is.
        min_rows: Fewer rows are not measured.
        alpha: Bound on p-values, corrected over all tests of a window.
        effects: How large a change must be to matter.
        confirm: In how many consecutive windows drift must be found.
        drift_share: Share of drifted features from which the data count as drifted: band ``warning``.
        critical_share: Share of drifted features above which the band is ``critical``.
        quality_margin: How far quality may fall below the reference's without a signal.
        features: What is set by hand for single features.
        segments: Cuts of number features, for quality per segment.
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
    effects: Effects = Effects()
    confirm: int = 2
    drift_share: float = 0.3
    critical_share: float = 0.5
    quality_margin: float = 0.01
    features: dict[str, FeatureRule] = field(default_factory=dict)
    segments: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InvalidPolicy(f"alpha is {self.alpha}, which is no probability of a false alarm.")
        if not 0 < self.drift_share <= self.critical_share <= 1:
            raise InvalidPolicy(
                f"drift_share {self.drift_share} and critical_share {self.critical_share} are no growing shares."
            )
        if self.min_rows < 1 or self.confirm < 1:
            raise InvalidPolicy(f"min_rows {self.min_rows} and confirm {self.confirm} count from 1.")
        if self.every <= timedelta(0) or self.lookback <= timedelta(0) or self.quality_margin < 0:
            raise InvalidPolicy("every and lookback are longer than nothing, and quality_margin is not below 0.")

    @property
    def types(self) -> dict[str, FeatureType]:
        """The feature types set by hand, as :meth:`Reference.fit` takes them."""
        return {name: rule.type for name, rule in self.features.items() if rule.type is not None}

    @property
    def metric(self) -> str:
        """The primary metric's name."""
        return self.primary_metric or ("f1" if self.task is Task.CLASSIFICATION else "rmse")
