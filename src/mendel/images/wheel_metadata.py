"""What the METADATA of a wheel tells of its licence and of what it needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_LICENCE_NAME = 100
_OSI = "License :: OSI Approved :: "


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFacts:
    """
    What a wheel says of itself.

    Attributes:
        licence: An SPDX expression, or the name of a licence; None when the wheel tells neither.
        is_expression: The licence is an SPDX expression.
        requires: Normalized names of what it asks for, without extras; an environment marker is not evaluated, so some
            may not be wanted on a platform.
    """

    licence: str | None = None
    is_expression: bool = False
    requires: tuple[str, ...] = ()

    @classmethod
    def parse(cls, metadata: str) -> WheelFacts:
        r"""
        Read the text of a METADATA file.

        >>> WheelFacts.parse("Name: x\nLicense-Expression: MIT\nRequires-Dist: Num.Py>=2\n")
        WheelFacts(licence='MIT', is_expression=True, requires=('num-py',))
        """
        headers = HeaderParser().parsestr(metadata)
        requires = {
            normalized_name(found.group())
            for line in headers.get_all("Requires-Dist") or ()
            if "extra" not in line.partition(";")[2] and (found := _NAME.match(line.strip()))
        }
        expression = headers.get("License-Expression")
        return cls(
            licence=expression or _licence_name(headers.get("License"), headers.get_all("Classifier") or ()),
            is_expression=expression is not None,
            requires=tuple(sorted(requires)),
        )


def normalized_name(name: str) -> str:
    """
    The name of a distribution as indexes compare it.

    >>> normalized_name("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence_name(field: str | None, classifiers: Sequence[str]) -> str | None:
    """The field where it is a name; some wheels put the whole text of the licence there, and classifiers name it."""
    if field and "\n" not in field.strip() and len(field) <= _LONGEST_LICENCE_NAME:
        return field.strip()
    return next((line.removeprefix(_OSI) for line in classifiers if line.startswith(_OSI)), None)
