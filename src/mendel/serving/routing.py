"""Choose the model version for a request by the traffic shares of the deployment."""

from __future__ import annotations

import hashlib
import random
import re
import reprlib
from typing import Final

from mendel.errors import VersionNotFound
from mendel.values import Deployment

_VERSION: Final = re.compile(r"0{0,8}[1-9][0-9]{0,17}", re.ASCII)


def choose_version(deployment: Deployment, key: str | None, rng: random.Random) -> int:
    """
    Choose a version of *deployment* with the probability of its traffic share.

    Calls with the same *key* get the same version while the shares stay the same; without a key the choice is random.
    The deployment must have at least one route.
    """
    if len(deployment.routes) == 1:
        return deployment.routes[0].version
    point = rng.random() if key is None else _point(deployment.model, key)
    for route in deployment.routes:
        if point < route.share:
            return route.version
        point -= route.share
    return deployment.routes[-1].version


def version_number(value: object) -> int | None:
    """
    Parse the version number of a request.

    None or empty text gives None: the version is then chosen by traffic share.

    Raises:
        VersionNotFound: The text is not a whole number of at least 1.

    >>> version_number("7"), version_number(7), version_number("")
    (7, 7, None)
    """
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and _VERSION.fullmatch(text):
        return int(text)
    raise VersionNotFound(
        f"{reprlib.repr(value)} is not a version number.", remedy="Write a whole number; versions are numbered from 1."
    )


def _point(model: str, key: str) -> float:
    digest = hashlib.sha256(f"{model}\0{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
