"""Fencing: who lost its lease changes nothing."""

from __future__ import annotations

from mendel.durable.ports import Lease
from mendel.errors import Fenced


def require_lease(held: Lease, current: Lease | None) -> None:
    """
    Refuse to go on unless *held* is still the newest epoch of its name.

    An expired lease that nobody took is still the newest: expiry alone harms nobody.

    Raises:
        Fenced: Somebody else took it, or it was given back.
    """
    if current is None or (current.holder, current.epoch) != (held.holder, held.epoch):
        now = "nobody" if current is None else f"{current.holder} (epoch {current.epoch})"
        raise Fenced(
            f"{held.holder} lost the lease {held.name!r} of epoch {held.epoch}; it is held by {now}.",
            remedy="Acquire the lease anew before changing anything.",
        )
