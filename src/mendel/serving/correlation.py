"""The correlation id of a request, which its log lines, its logged prediction and its answer share."""

from __future__ import annotations

import random
import re

_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def correlation_id(request_id: str | None, traceparent: str | None, rng: random.Random) -> str:
    """
    Give *request_id* if it is well-formed, else the trace id in *traceparent*, else a new random id.

    A well-formed id has 1 to 128 ASCII letters, digits and the characters ``._:/+=@-``.

    >>> correlation_id("order-7", None, random.Random(0))
    'order-7'
    """
    if request_id and _SANE.fullmatch(request_id):
        return request_id
    if traceparent and (found := _TRACEPARENT.fullmatch(traceparent)):
        return found.group(1)
    return f"{rng.getrandbits(128):032x}"
