"""
Map the column names of Mendel's tables to column names in Delta tables and back.

Delta allows one type per column, ignores case in names, and some readers reject certain characters. Rejected characters
are percent-encoded (``%20``). If a column of the same name has another type or case, ``#`` and the type are appended
(``feature.city#number``). A column with values of several types is stored as JSON in ``name#mixed``. Reading merges all
stored columns of the same name.
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
    Choose the stored name of the column *name* with type *kind*; *known* maps stored names to their types.

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
    raise AssertionError(f"No free column name was found for {name!r} in the Delta table.")


def column_name(on_disk: str) -> str:
    """
    Decode the column name that :func:`disk_name` encoded.

    >>> column_name("feature.mean%20radius#mixed")
    'feature.mean radius'
    """
    return unquote(on_disk.partition("#")[0])


def is_mixed(on_disk: str) -> bool:
    """Whether the stored column *on_disk* contains JSON."""
    return on_disk.partition("#")[2].startswith(MIXED)


def _candidates(name: str, kind: str) -> Iterator[str]:
    plain = [] if kind == MIXED else [name]
    return chain(plain, [f"{name}#{kind}"], (f"{name}#{kind}{number}" for number in count(2)))
