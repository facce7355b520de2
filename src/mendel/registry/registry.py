"""The registry: one noun with every verb, over a unit of work and an artefact store."""

from __future__ import annotations

from mendel.registry.approving import Approving
from mendel.registry.changing import Changing
from mendel.registry.configuring import Configuring
from mendel.registry.reading import Reading
from mendel.registry.registering import Registering
from mendel.registry.watching import Watching


class Registry(Registering, Changing, Approving, Reading, Watching, Configuring):
    """
    Models, their versions, and what is served.

    Safe to share between threads; several processes may share one database. Every change is one transaction together
    with its events.
    """
