"""Names and references, validated at birth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from mendel.errors import InvalidValue

_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_UUID = re.compile(r"m-[0-9a-f]{32}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ModelName(str):
    """
    The name that owns versions; for a project, the name of the classifier.

    >>> ModelName("credit-risk")
    'credit-risk'
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102 - the class says it
        if not isinstance(text, str) or not _MODEL_NAME.fullmatch(text):
            raise InvalidValue(
                f"{text!r} is not a model name.",
                remedy="Use lower-case letters, digits, '-' and '_', starting with a letter or digit, at most 128.",
            )
        return super().__new__(cls, text)


class VersionUuid(str):
    """The uuid of a version, equal to the id of its MLflow logged model: ``m-`` and 32 hex digits."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102 - the class says it
        if not isinstance(text, str) or not _UUID.fullmatch(text):
            raise InvalidValue(f"{text!r} is not a version uuid.", remedy="It reads m-<32 hex digits>.")
        return super().__new__(cls, text)


class Digest(str):
    """A content digest, ``sha256:<64 hex>``."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102 - the class says it
        if not isinstance(text, str) or not _DIGEST.fullmatch(text):
            raise InvalidValue(f"{text!r} is not a digest.", remedy="It reads sha256:<64 hex digits>.")
        return super().__new__(cls, text)

    @property
    def hex(self) -> str:
        """The 64 hex digits alone, fit for a file name."""
        return self.removeprefix("sha256:")


@dataclass(frozen=True, slots=True, order=True)
class VersionRef:
    """
    One version of one model.

    >>> VersionRef.parse("credit@3")
    VersionRef(model='credit', number=3)
    >>> str(VersionRef.parse("credit/3"))
    'credit@3'
    """

    model: ModelName
    number: int

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or self.number < 1:
            raise InvalidValue(f"{self.number!r} is not a version number.", remedy="Versions count from 1.")

    def __str__(self) -> str:
        return f"{self.model}@{self.number}"

    @classmethod
    def parse(cls, text: str) -> VersionRef:
        """Read ``name@N`` or ``name/N``."""
        name, _, number = text.replace("/", "@").rpartition("@")
        if not name or not number.isascii() or not number.isdigit():
            raise InvalidValue(f"{text!r} is not a version.", remedy="Write NAME@N, for example credit@3.")
        return cls(ModelName(name), int(number))
