"""Fencing: a process that lost its lease must change nothing."""

from __future__ import annotations

from mendel.durable.ports import Lease
from mendel.errors import Fenced


def require_lease(held: Lease, current: Lease | None) -> None:
    """
    Check that the lease *held* is still the newest epoch of its name.

    An expired lease is still accepted while no other holder has acquired it.

    Args:
        held: The lease that the process acquired.
        current: The newest lease of that name in the store; None when the lease was released.

    Raises:
        Fenced: Another holder acquired the lease, or the lease was released.
    """
    if current is None or (current.holder, current.epoch) != (held.holder, held.epoch):
        now = (
            "no process holds the lease now"
            if current is None
            else f"{current.holder} holds the lease now, with epoch {current.epoch}"
        )
        raise Fenced(
            f"The process {held.holder} lost the lease {held.name!r} (epoch {held.epoch}): {now}.",
            remedy="Acquire the lease again before changing anything.",
        )
