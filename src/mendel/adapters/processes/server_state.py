"""A server's state: the desired state, how far the workers have applied it, and the server's reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from mendel.adapters.processes.convergence import (
    converged_models,
    fold_convergence,
    fold_external,
    restart_asked,
    restart_epochs,
    settle,
)
from mendel.adapters.processes.desired_state_feed import Delivery, StateFiles, models_of
from mendel.adapters.processes.server_address import ServingState
from mendel.adapters.processes.shared_counters import CounterTotals
from mendel.adapters.processes.worker_messages import Desire, Status
from mendel.durable import Clock
from mendel.errors import StoreUnavailable
from mendel.serving import version_counters, version_ref
from mendel.values import DesiredModel, DesiredState, ModelConvergence, ModelName, ServerReport

_log = structlog.get_logger("mendel.server")
NOTHING = DesiredState(revision=-1, key_hashes={})
"""The desired state before the first delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEpoch:
    """The id of a server and of one run of it; counters start at 0 in each epoch."""

    server: str
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFromPath:
    """A model that a client loaded from a directory; the hub does not know the model."""

    desired: DesiredModel
    directory: Path


class ServerState:
    """
    The newest delivery and the state that all workers serve; messages to workers and reports are made from both.

    Clients may unload deployed models and load models by path; both stay in effect until the server stops.

    Args:
        statuses: Gives the statuses of all running workers.
        swapped: Called when all workers serve another production version of a model than they served before.
        spool_notes: Gives the upload's part of the report: waiting segments and refused spools.
        told: Called with the state of the server's models whenever it changes.
        mark: Adds to the convergence of a model what only the supervisor knows.
    """

    def __init__(
        self,
        epoch: ServerEpoch,
        files: StateFiles,
        counters: CounterTotals,
        *,
        statuses: Callable[[], Sequence[Status]],
        spool_notes: Callable[[], dict[str, Any]],
        swapped: Callable[[ModelName], None],
        told: Callable[[ServingState], None],
        mark: Callable[[ModelConvergence], ModelConvergence],
        clock: Clock,
    ) -> None:
        self._epoch = epoch
        self._files = files
        self._counters = counters
        self._statuses = statuses
        self._spool_notes = spool_notes
        self._swapped = swapped
        self._told = told
        self._mark = mark
        self._serving: ServingState | None = None
        self._production: dict[ModelName, int] = {}
        self._clock = clock
        self._delivery = Delivery(newest=NOTHING, servable=NOTHING, missing={})
        self._settled = files.settled() or NOTHING
        self._convergence_at_stop: tuple[ModelConvergence, ...] | None = None
        self.vintage = 0
        """Increases when all workers must be replaced."""
        self.unloaded: frozenset[ModelName] = frozenset()
        self.from_path: dict[ModelName, ModelFromPath] = {}

    def take(self, delivery: Delivery) -> None:
        """Store *delivery*; a requested restart increases ``vintage``."""
        if restart_asked(restart_epochs(self._delivery.newest), restart_epochs(delivery.newest)):
            self.vintage += 1
        self._delivery = delivery
        deployed = models_of(delivery.newest)
        self.unloaded -= self.from_path.keys() & deployed.keys()
        self.from_path = {name: model for name, model in self.from_path.items() if name not in deployed}
        self.unloaded &= deployed.keys() | self.from_path.keys()

    def is_deployed(self, model: ModelName) -> bool:
        """Whether the newest desired state names *model*."""
        return model in models_of(self._delivery.newest)

    def stop(self) -> None:
        """
        Keep the present convergence for all later reports, because stopping workers must not look like a version's
        fault.
        """
        self._convergence_at_stop = self._folded(self._accepting())

    def desire(self) -> Desire | None:
        """Make the message to the workers; None before the first delivery."""
        if self._delivery.newest is NOTHING:
            return None
        servable, missing = self._delivery.servable, self._delivery.missing
        wanted = {model.deployment.model for model in servable.models}
        base = replace(servable, models=tuple(m for m in self._settled.models if m.deployment.model in wanted))
        absent = [model for model in self._delivery.newest.models if model.deployment.model not in wanted]
        errors = {
            model.deployment.model: [missing[v.artifact_digest] for v in model.versions if v.artifact_digest in missing]
            for model in absent
        }
        local = self.from_path.values()
        return Desire(
            state=replace(servable, models=(*servable.models, *(model.desired for model in local))),
            base=base if base.models not in {(), servable.models} else None,
            awaited={name: "; ".join(found) for name, found in errors.items()},
            unloaded=tuple(sorted(self.unloaded)),
            directories={model.desired.versions[0].artifact_digest: str(model.directory) for model in local},
        )

    def review(self) -> None:
        """Update and store the settled state after a worker's status changed, and delete unused artefacts."""
        servable, statuses = self._delivery.servable, self._accepting()
        settled = settle(self._settled, servable, statuses)
        if settled != self._settled:
            self._settled = settled
            self._files.keep_settled(settled)
            self._files.tidy(self._delivery.newest, servable, settled)
        for model in converged_models(servable, statuses):
            self._note_production(model.deployment.model, model.deployment.production)
        self._tell(statuses)

    def _tell(self, statuses: Sequence[Status]) -> None:
        if self._delivery.newest is NOTHING or self._convergence_at_stop is not None:
            return
        folded = self._folded(statuses)
        models = tuple(replace(line, detail=None) for line in folded)  # the detail may quote rows
        state = ServingState(epoch=self._epoch.epoch, current=self._delivery.current, models=models)
        if state == self._serving:
            return
        try:
            self._told(state)
        except StoreUnavailable as error:
            _log.warning("serving_state_not_written", error=error.message)
            return
        self._serving = state

    def _note_production(self, model: ModelName, version: int | None) -> None:
        if version is None or model in self.unloaded:
            return
        if self._production.get(model, version) != version:
            self._swapped(model)
        if self._production.get(model) != version:
            _log.info("serves", version=str(version_ref(model, version)))
        self._production[model] = version

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
            convergence=self._folded(statuses) if at_stop is None else at_stop,
            counters=version_counters(self._counters.totals()),
            spool={**self._spool_notes(), "workers": [status.spool for status in statuses]},
            leaving=at_stop is not None,
            external_api=fold_external(statuses),
        )

    def _folded(self, statuses: Sequence[Status]) -> tuple[ModelConvergence, ...]:
        return tuple(map(self._mark, fold_convergence(self._delivery, statuses)))

    def _accepting(self) -> tuple[Status, ...]:
        return tuple(status for status in self._statuses() if status.accepting)
