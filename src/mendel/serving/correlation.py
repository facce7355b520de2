"""The id that ties a request to its log lines, its prediction and its answer."""

from __future__ import annotations

import random
import re

_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def correlation_id(request_id: str | None, traceparent: str | None, rng: random.Random) -> str:
    """
    The caller's ``X-Request-ID`` if it is sane, else the trace of its ``traceparent``, else a new one.

    >>> correlation_id("order-7", None, random.Random(0))
    'order-7'
    """
    if request_id and _SANE.fullmatch(request_id):
        return request_id
    if traceparent and (found := _TRACEPARENT.fullmatch(traceparent)):
        return found.group(1)
    return f"{rng.getrandbits(128):032x}"
