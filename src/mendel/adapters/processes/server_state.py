"""A server's state: the desired state, how far the workers have applied it, and the server's reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mendel.adapters.processes.convergence import fold_convergence, restart_asked, restart_epochs, settle
from mendel.adapters.processes.desired_state_feed import Delivery, StateFiles
from mendel.adapters.processes.shared_counters import CounterTotals
from mendel.adapters.processes.worker_messages import Desire, Status
from mendel.durable import Clock
from mendel.serving import version_counters
from mendel.values import DesiredState, ModelConvergence, ServerReport

NOTHING = DesiredState(revision=-1, key_hashes={})
"""The desired state before the first delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEpoch:
    """The id of a server and of one run of it; counters start at 0 in each epoch."""

    server: str
    epoch: str


class ServerState:
    """
    The newest delivery and the state that all workers serve; messages to workers and reports are made from both.

    Args:
        statuses: Gives the statuses of all running workers.
        spool_notes: Gives the upload's part of the report: waiting segments and refused spools.
    """

    def __init__(
        self,
        epoch: ServerEpoch,
        files: StateFiles,
        counters: CounterTotals,
        *,
        statuses: Callable[[], Sequence[Status]],
        spool_notes: Callable[[], dict[str, Any]],
        clock: Clock,
    ) -> None:
        self._epoch = epoch
        self._files = files
        self._counters = counters
        self._statuses = statuses
        self._spool_notes = spool_notes
        self._clock = clock
        self._delivery = Delivery(newest=NOTHING, servable=NOTHING, missing={})
        self._settled = files.settled() or NOTHING
        self._convergence_at_stop: tuple[ModelConvergence, ...] | None = None
        self.vintage = 0
        """Increases when all workers must be replaced."""

    def take(self, delivery: Delivery) -> None:
        """Store *delivery*; a requested restart increases ``vintage``."""
        if restart_asked(restart_epochs(self._delivery.newest), restart_epochs(delivery.newest)):
            self.vintage += 1
        self._delivery = delivery

    def stop(self) -> None:
        """
        Keep the present convergence for all later reports, because stopping workers must not look like a version's
        fault.
        """
        self._convergence_at_stop = fold_convergence(self._delivery, self._accepting())

    def desire(self) -> Desire | None:
        """Make the message to the workers; None before the first delivery."""
        if self._delivery.newest is NOTHING:
            return None
        state = self._delivery.servable
        wanted = {model.deployment.model for model in state.models}
        base = replace(state, models=tuple(m for m in self._settled.models if m.deployment.model in wanted))
        deployed = (model.deployment.model for model in self._delivery.newest.models)
        return Desire(
            state=state,
            base=base if base.models not in {(), state.models} else None,
            awaited=tuple(model for model in deployed if model not in wanted),
        )

    def review(self) -> None:
        """Update and store the settled state after a worker's status changed, and delete unused artefacts."""
        settled = settle(self._settled, self._delivery.servable, self._accepting())
        if settled != self._settled:
            self._settled = settled
            self._files.keep_settled(settled)
            self._files.tidy(self._delivery.newest, self._delivery.servable, settled)

    def report(self, seq: int) -> ServerReport:
        """Make the server's current report."""
        statuses, at_stop = self._accepting(), self._convergence_at_stop
        return ServerReport(
            server=self._epoch.server,
            epoch=self._epoch.epoch,
            seq=seq,
            at=self._clock(),
            revision=min((status.revision for status in statuses), default=-1),
            ready=any(status.ready for status in statuses),
            convergence=fold_convergence(self._delivery, statuses) if at_stop is None else at_stop,
            counters=version_counters(self._counters.totals()),
            spool={**self._spool_notes(), "workers": [status.spool for status in statuses]},
            leaving=at_stop is not None,
        )

    def _accepting(self) -> tuple[Status, ...]:
        return tuple(status for status in self._statuses() if status.accepting)
