"""Read licence and dependencies from the METADATA file of a wheel."""

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
    Licence and dependencies of a wheel.

    Attributes:
        licence: An SPDX expression, or the name of a licence; None when the wheel names no licence.
        is_expression: True when ``licence`` is an SPDX expression.
        requires: Normalised names of required distributions, without extras. Environment markers are not evaluated, so
            some may not be needed on a platform.
    """

    licence: str | None = None
    is_expression: bool = False
    requires: tuple[str, ...] = ()

    @classmethod
    def parse(cls, metadata: str) -> WheelFacts:
        r"""
        Parse the text of a METADATA file.

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
    Normalise the name of a distribution as package indexes do (PEP 503).

    >>> normalized_name("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence_name(field: str | None, classifiers: Sequence[str]) -> str | None:
    """Give the licence's name from the field; when the field holds the licence's full text, from the classifiers."""
    if field and "\n" not in field.strip() and len(field) <= _LONGEST_LICENCE_NAME:
        return field.strip()
    return next((line.removeprefix(_OSI) for line in classifiers if line.startswith(_OSI)), None)
