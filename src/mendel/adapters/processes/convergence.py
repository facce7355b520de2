"""Compute from the workers' statuses how far a server has applied the desired state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from mendel.adapters.processes.desired_state_feed import Delivery, models_of
from mendel.adapters.processes.worker_messages import Status
from mendel.values import DesiredModel, DesiredState, ExternalServer, ModelConvergence, ModelName

_STATUSES: Final = ("healthy", "degraded", "unhealthy")


def fold_convergence(delivery: Delivery, statuses: Sequence[Status]) -> tuple[ModelConvergence, ...]:
    """
    Give each desired model's convergence: the generation that the slowest worker serves, and any error.

    A missing artefact, or an error of one worker, is reported as an error of the model. ``version_at_fault`` is set
    only if every worker that failed says so, and no worker serves the version. A model is unloaded if every worker has
    unloaded it. Otherwise a worker that has unloaded it does not count while another worker serves it or failed to load
    it.
    """
    return tuple(_fold_model(model, delivery, statuses) for model in delivery.newest.models)


def _fold_model(model: DesiredModel, delivery: Delivery, statuses: Sequence[Status]) -> ModelConvergence:
    name, desired = model.deployment.model, model.deployment.generation
    nowhere = ModelConvergence(model=name, generation_desired=desired, generation_serving=0, version_serving=None)
    lines = [_line_of(status, name) or nowhere for status in statuses] or [nowhere]
    held = [line for line in lines if not line.unloaded]
    telling = any(line.generation_serving or line.error is not None for line in held)
    least = min(held if telling else lines, key=lambda line: line.generation_serving)
    least = replace(
        least,
        generation_serving=min(least.generation_serving, _most(model, delivery)),
        unloaded=not held,
    )
    absent = next((v for v in model.versions if v.artifact_digest in delivery.missing), None)
    if absent is not None:
        missing = delivery.missing[absent.artifact_digest]
        return _told(least, replace(nowhere, failed_version=absent.number, error=missing))
    broken = [line for line in lines if line.error is not None and line.generation_desired == desired]
    if not broken:
        return _told(least, nowhere)
    worst = next((line for line in broken if line.failed_version == model.deployment.production), broken[0])
    same = [line for line in broken if line.failed_version == worst.failed_version]
    served = any(line.generation_serving >= desired or line.version_serving == worst.failed_version for line in lines)
    at_fault = all(line.version_at_fault for line in same) and not served
    return _told(least, replace(worst, version_at_fault=at_fault, failed_loads=max(line.failed_loads for line in same)))


def _told(least: ModelConvergence, failure: ModelConvergence) -> ModelConvergence:
    """Combine the versions that the slowest worker serves (*least*) with the load failure of any worker."""
    return replace(
        failure,
        generation_serving=least.generation_serving,
        version_serving=least.version_serving,
        unloaded=least.unloaded,
    )


def _most(model: DesiredModel, delivery: Delivery) -> int:
    """The newest generation that can be served: not the desired one while its canary's artefact is missing."""
    desired, given = model.deployment, models_of(delivery.servable).get(model.deployment.model)
    partly = given is not None and given.deployment.routes != desired.routes
    return desired.generation - 1 if partly else desired.generation


def _line_of(status: Status, model: ModelName) -> ModelConvergence | None:
    return next((line for line in status.convergence if line.model == model), None)


def fold_external(statuses: Sequence[Status]) -> tuple[ExternalServer, ...]:
    """Give each server of a remote model once, as the worker with the worst view sees it, sorted by address."""
    seen = [server for status in statuses for server in status.external_api]
    worst = {server.address: server for server in sorted(seen, key=lambda server: _STATUSES.index(server.status))}
    return tuple(worst[address] for address in sorted(worst))


def settle(settled: DesiredState, servable: DesiredState, statuses: Sequence[Status]) -> DesiredState:
    """
    Give the newest state that works: per model the deployment that every worker serves, else the one in *settled*.

    A worker that has unloaded the model counts as serving the deployment that it would load next. A new worker starts
    from this state if the newest state cannot be loaded.
    """
    before = models_of(settled)
    models = []
    for model in servable.models:
        name = model.deployment.model
        if statuses and all(_converged(status, model) or _unloaded(status, model) for status in statuses):
            models.append(model)
        elif name in before:
            models.append(before[name])
    return replace(servable, models=tuple(models))


def converged_models(servable: DesiredState, statuses: Sequence[Status]) -> tuple[DesiredModel, ...]:
    """The models of *servable* whose deployment every worker serves; none while there is no worker."""
    if not statuses:
        return ()
    return tuple(model for model in servable.models if all(_converged(status, model) for status in statuses))


def _converged(status: Status, model: DesiredModel) -> bool:
    line = _line_of(status, model.deployment.model)
    return line is not None and line.generation_serving == model.deployment.generation


def _unloaded(status: Status, model: DesiredModel) -> bool:
    line = _line_of(status, model.deployment.model)
    return line is not None and line.unloaded and line.generation_desired == model.deployment.generation


def restart_epochs(state: DesiredState) -> dict[ModelName, int]:
    return {model.deployment.model: model.deployment.restart_epoch for model in state.models}


def restart_asked(before: Mapping[ModelName, int], now: Mapping[ModelName, int]) -> bool:
    """
    Whether the restart epoch of a model has grown; new models do not count.

    >>> restart_asked({ModelName("credit"): 1}, {ModelName("credit"): 2, ModelName("new"): 7})
    True
    """
    return any(epoch > before[model] for model, epoch in now.items() if model in before)
