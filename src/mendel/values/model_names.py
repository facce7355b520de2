"""Model names, version uuids, digests and version references, validated when created."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from mendel.errors import InvalidValue


class ModelName(str):
    """
    The name of a registered model; for a model from a project, the name of its classifier.

    >>> ModelName("credit-risk")
    'credit-risk'
    """

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]] = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not cls.pattern.fullmatch(text):
            raise InvalidValue(
                f"{text!r} is not a model name.",
                remedy="Use 1 to 128 lower-case letters, digits, '-' and '_'; start with a letter or digit.",
            )
        return super().__new__(cls, text)


class VersionUuid(str):
    """The uuid of a version: ``m-`` and 32 hex digits, equal to the id of its logged model in MLflow."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]] = re.compile(r"m-[0-9a-f]{32}")

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not cls.pattern.fullmatch(text):
            raise InvalidValue(f"{text!r} is not a version uuid.", remedy="Write m-<32 hex digits>.")
        return super().__new__(cls, text)


class Digest(str):
    """A content digest, ``sha256:<64 hex>``."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]] = re.compile(r"sha256:[0-9a-f]{64}")

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not cls.pattern.fullmatch(text):
            raise InvalidValue(f"{text!r} is not a digest.", remedy="Write sha256:<64 hex digits>.")
        return super().__new__(cls, text)

    @property
    def hex(self) -> str:
        """The 64 hex digits without ``sha256:``, usable in a file name."""
        return self.removeprefix("sha256:")


@dataclass(frozen=True, slots=True, order=True)
class VersionRef:
    """
    A version of a model, named by the model's name and the version's number.

    >>> VersionRef.parse("credit@3")
    VersionRef(model='credit', number=3)
    >>> str(VersionRef.parse("credit/3"))
    'credit@3'
    """

    model: ModelName
    number: int

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or self.number < 1:
            raise InvalidValue(
                f"{self.number!r} is not a version number.", remedy="Versions are numbered from 1; write NAME@1."
            )

    @property
    def name(self) -> ModelName:
        """Another name of ``model``."""
        return self.model

    @property
    def version(self) -> int:
        """Another name of ``number``."""
        return self.number

    def __str__(self) -> str:
        return f"{self.model}@{self.number}"

    @classmethod
    def parse(cls, text: str) -> VersionRef:
        """Parse ``name@N`` or ``name/N``; anything else raises InvalidValue."""
        name, _, number = text.replace("/", "@").rpartition("@")
        if not name or not number.isascii() or not number.isdigit():
            raise InvalidValue(f"{text!r} is not a model version.", remedy="Write NAME@N, for example credit@3.")
        return cls(ModelName(name), int(number))
