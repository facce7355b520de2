"""The version that answers a call: by its number, or by the shares of the routes."""

from __future__ import annotations

import hashlib
import random

from mendel.errors import VersionNotFound
from mendel.values import Deployment


def choose_version(deployment: Deployment, key: str | None, rng: random.Random) -> int:
    """
    A version of *deployment*'s routes, by their shares.

    The same key gets the same version as long as the shares stand; without a key it is chance. There must be a route.
    """
    if len(deployment.routes) == 1:
        return deployment.routes[0].version
    point = rng.random() if key is None else _point(deployment.model, key)
    for route in deployment.routes:
        if point < route.share:
            return route.version
        point -= route.share
    return deployment.routes[-1].version


def version_number(text: str | None) -> int | None:
    """
    The number of a version as callers write it; nothing is None, which leaves the choice to the routes' shares.

    Raises:
        VersionNotFound: It is not a number from 1.

    >>> version_number("7"), version_number("")
    (7, None)
    """
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise VersionNotFound(f"There is no version {text!r}.", remedy="Versions count from 1.")
    return int(text)


def _point(model: str, key: str) -> float:
    digest = hashlib.sha256(f"{model}\0{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
