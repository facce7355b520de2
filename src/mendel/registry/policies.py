"""Policy documents: the versioned YAML of one model, and the sections that the registry reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mendel.errors import InvalidPolicy
from mendel.registry.promotion_windows import PromotionPolicy
from mendel.values import ModelName, from_mapping, to_json, unknown_key_message

SECTIONS = ("canary", "gates", "governance", "healing", "monitoring", "promotion", "retraining", "rollback")


class Profile(StrEnum):
    """With ``default``, the cause decides the remedy; with ``classic``, every rollback trigger rolls the model back."""

    DEFAULT = "default"
    CLASSIC = "classic"


class Flag(StrEnum):
    """A governance flag."""

    POLICY = "policy"
    BIAS = "bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPolicy:
    """
    Bounds of the rollback triggers (section ``rollback``).

    Attributes:
        error_rate, ood_rate: The largest share of failed requests, and of rows outside the reference.
        latency_ratio: The largest p95 latency, as a multiple of the expected p95.
        drift_kl: The largest KL divergence in nats: the mean over features, with its bias subtracted.
        min_requests, min_requests_drift: The smallest number of requests for measuring a criterion, and for measuring
            drift.
        window: The length of the measured window.
        silence: A server whose last report is older counts as not answering; servers report every 2 s.
    """

    error_rate: float = 0.05
    latency_ratio: float = 1.5
    ood_rate: float = 0.20
    drift_kl: float = 0.30
    min_requests: int = 50
    min_requests_drift: int = 500
    window: timedelta = timedelta(minutes=10)
    silence: timedelta = timedelta(seconds=10)
    profile: Profile = Profile.DEFAULT

    def __post_init__(self) -> None:
        for name in ("error_rate", "ood_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidPolicy(f"rollback.{name} must be a fraction from 0 to 1, not {getattr(self, name)}.")
        if min(self.latency_ratio, self.drift_kl) < 0 or min(self.min_requests, self.min_requests_drift) < 1:
            raise InvalidPolicy(
                "rollback: latency_ratio and drift_kl must not be negative, and min_requests must be at least 1."
            )
        if min(self.window, self.silence) <= timedelta(0):
            raise InvalidPolicy("rollback: window and silence must be longer than 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernancePolicy:
    """
    The governance flags that a version needs for production and canary (section ``governance``).

    ``inherit``: flags pass from the parent version when code, dependencies and signature are equal.
    ``two_people``: the key or user that registered a version does not approve this version.
    """

    require: tuple[Flag, ...] = (Flag.POLICY, Flag.BIAS)
    inherit: bool = False
    two_people: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Baking:
    """The only key of the section ``healing`` that the registry reads."""

    bake: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """
    One version of a model's policy; version 0 is the default policy.

    ``hash`` is the SHA-256 (hex) of the canonical JSON of ``body``; every decision based on the policy records it.
    """

    model: ModelName
    version: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    by: str = ""

    @property
    def hash(self) -> str:
        """The SHA-256 (hex) of the body."""
        return hashlib.sha256(to_json(self.body)).hexdigest()

    def section(self, name: str) -> dict[str, Any]:
        """The section *name*; empty if the document lacks the section, so that defaults apply."""
        found: dict[str, Any] = self.body.get(name) or {}
        return found

    @property
    def rollback(self) -> RollbackPolicy:
        """The section ``rollback``."""
        return from_mapping(RollbackPolicy, self.section("rollback"), at="rollback")

    @property
    def governance(self) -> GovernancePolicy:
        """The section ``governance``."""
        return from_mapping(GovernancePolicy, self.section("governance"), at="governance")

    @property
    def promotion(self) -> PromotionPolicy:
        """The section ``promotion``."""
        return from_mapping(PromotionPolicy, self.section("promotion"), at="promotion")

    @property
    def gated(self) -> bool:
        """Whether the model has gates."""
        return self.body.get("gates") is not None

    @property
    def bake(self) -> timedelta:
        """How long a former production version stays loaded (``healing.bake``)."""
        own = {key: value for key, value in self.section("healing").items() if key == "bake"}
        return from_mapping(_Baking, own, at="healing").bake


def checked_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check *body* and give the form in which it is stored.

    Raises:
        InvalidPolicy: A section is unknown or not a mapping, or a value that the registry reads is invalid.
    """
    for name, section in body.items():
        if name not in SECTIONS:
            raise InvalidPolicy(unknown_key_message(name, list(SECTIONS), "policy"))
        if section is not None and not isinstance(section, Mapping):
            raise InvalidPolicy(f"policy.{name}: {section!r} is not a mapping of keys to values.")
    return dict(body)
