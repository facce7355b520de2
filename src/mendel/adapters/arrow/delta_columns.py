"""
Names of columns on disk.

Delta knows one type per column, compares names without case, and readers of it refuse some characters. So a column
stands under its own name, with such characters written ``%20``, unless another type or another case has that name:
then ``#`` and its kind follow (``feature.city#number``). Values of several kinds in one column are JSON under
``#mixed``. Reading puts all columns of one name together again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain, count
from urllib.parse import quote, unquote

from mendel.adapters.arrow.arrow_columns import MIXED

_UNFIT = re.compile(r"[\s,;{}()=%#\\/`'\"]")


def disk_name(name: str, kind: str, known: Mapping[str, str]) -> str:
    """
    The name under which a column of *kind* stands in a table that has the columns *known* (name on disk -> kind).

    >>> disk_name("feature.mean radius", "number", {})
    'feature.mean%20radius'
    >>> disk_name("age", "text", {"age": "number"}), disk_name("age", "number", {"Age": "number"})
    ('age#text', 'age#number')
    """
    folded = {other.lower(): other for other in known}
    for candidate in _candidates(_UNFIT.sub(lambda found: quote(found.group(), safe=""), name), kind):
        taken = folded.get(candidate.lower())
        if taken is None or (taken == candidate and known[taken] == kind):
            return candidate
    raise AssertionError("candidates never end")


def column_name(on_disk: str) -> str:
    """
    The other way round.

    >>> column_name("feature.mean%20radius#mixed")
    'feature.mean radius'
    """
    return unquote(on_disk.partition("#")[0])


def is_mixed(on_disk: str) -> bool:
    """Whether the column holds JSON."""
    return on_disk.partition("#")[2].startswith(MIXED)


def _candidates(name: str, kind: str) -> Iterator[str]:
    plain = [] if kind == MIXED else [name]
    return chain(plain, [f"{name}#{kind}"], (f"{name}#{kind}{number}" for number in count(2)))
