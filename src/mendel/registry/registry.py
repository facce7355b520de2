"""The registry: one noun with every verb, over a unit of work and an artefact store."""

from __future__ import annotations

from mendel.registry.approvals import Approving
from mendel.registry.lifecycle import Changing
from mendel.registry.performance import Watching
from mendel.registry.policy_store import Configuring
from mendel.registry.queries import Reading
from mendel.registry.version_registration import Registering


class Registry(Registering, Changing, Approving, Reading, Watching, Configuring):
    """
    Models, their versions, and what is served.

    Safe to share between threads; several processes may share one database. Every change is one transaction together
    with its events.
    """
