"""Semantic versions and release tags: ``<classifier>-v<X.Y.Z>-mlserver-<hash>``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from mendel.errors import InvalidValue

_NUMBER = r"(0|[1-9][0-9]*)"
_SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
_CLASSIFIER = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TOOL = re.compile(r"[0-9a-f]{7,40}|dev")
_TAG = re.compile(rf"({_CLASSIFIER.pattern})-v{_SEMVER.pattern}-mlserver-({_TOOL.pattern})")


class Bump(StrEnum):
    """The part of a semantic version that a release increments."""

    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


@dataclass(frozen=True, slots=True, order=True)
class SemVer:
    """
    A semantic version without pre-release parts.

    >>> SemVer.parse("1.10.0") > SemVer.parse("1.9.0")
    True
    """

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> SemVer:
        """Parse ``X.Y.Z`` without leading zeros; anything else raises InvalidValue."""
        found = _SEMVER.fullmatch(text)
        if not found:
            raise InvalidValue(f"{text!r} is not a semantic version.", remedy="Write X.Y.Z without leading zeros.")
        return cls(*(int(part) for part in found.groups()))

    def bumped(self, part: Bump) -> SemVer:
        """Give the version with *part* incremented by 1 and every lower part set to 0."""
        match part:
            case Bump.MAJOR:
                return SemVer(self.major + 1, 0, 0)
            case Bump.MINOR:
                return SemVer(self.major, self.minor + 1, 0)
            case Bump.PATCH:
                return SemVer(self.major, self.minor, self.patch + 1)


@dataclass(frozen=True, slots=True)
class ReleaseTag:
    """
    The git tag of a release: the classifier, its semantic version, and the commit of the tool that made the tag.

    >>> tag = ReleaseTag.parse("sentiment-vip-v1.2.0-mlserver-762e7f2")
    >>> tag.classifier, str(tag.version), tag.tool
    ('sentiment-vip', '1.2.0', '762e7f2')
    >>> ReleaseTag.parse(str(tag)) == tag
    True
    """

    classifier: str
    version: SemVer
    tool: str

    def __post_init__(self) -> None:
        if not _CLASSIFIER.fullmatch(self.classifier):
            raise InvalidValue(
                f"{self.classifier!r} is not a classifier name.",
                remedy="Use lower-case letters, digits, '-' and '_'; start with a letter or digit.",
            )
        if not _TOOL.fullmatch(self.tool):
            raise InvalidValue(
                f"{self.tool!r} is not the commit of a Mendel version.", remedy="Write 7 to 40 hex digits, or dev."
            )

    def __str__(self) -> str:
        return f"{self.classifier}-v{self.version}-mlserver-{self.tool}"

    @property
    def reproducible(self) -> bool:
        """False when the tag was made by a tool of unknown commit (``dev``)."""
        return self.tool != "dev"

    @classmethod
    def parse(cls, text: str) -> ReleaseTag:
        """Parse a tag, split at the *last* ``-v<version>-mlserver-``; anything else raises InvalidValue."""
        found = _TAG.fullmatch(text)
        if not found:
            raise InvalidValue(f"{text!r} is not a release tag.", remedy="Write <classifier>-v<X.Y.Z>-mlserver-<hash>.")
        classifier, *numbers, tool = found.groups()
        return cls(classifier, SemVer(*map(int, numbers)), tool)
