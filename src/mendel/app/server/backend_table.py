"""All kinds of backends in which a server runs predictors. To add a backend, add it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mendel.adapters.threads import AcceleratedLoads, load_in_thread
from mendel.serving import LoadBackend

BACKENDS: Final[Mapping[str, Callable[[], LoadBackend]]] = {
    "thread": lambda: load_in_thread,
    "accelerated": AcceleratedLoads,
}
"""By the name of the kind: gives a function that loads artefacts into backends of one process."""
