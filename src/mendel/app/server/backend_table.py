"""All kinds of backends in which a server runs predictors. To add a backend, add it here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mendel.adapters.threads import load_in_thread
from mendel.serving import LoadBackend

BACKENDS: Final[Mapping[str, LoadBackend]] = {"thread": load_in_thread}
"""The functions that load an artefact into a backend, by the name of the kind."""
