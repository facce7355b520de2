"""Complete the description of a remote model before it is registered: its name, its signature and its task."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from mendel.serving import RemoteModel
from mendel.values import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedModel:
    """A remote model with what its servers tell; ``signature`` is None if they were not asked, or announce none."""

    model: RemoteModel
    signature: Signature | None
    task: str


def located(model: RemoteModel, name: str, *, task: str | None = None, alone: bool = False) -> LocatedModel:
    """
    Complete *model* with what its servers announce.

    Args:
        name: The name of the registered model, for a *model* without a name on its servers.
        task: None takes the task that the announced outputs show.
        alone: When True, the caller knows the columns, so the servers are asked only for a missing task.

    Raises:
        NotReady: No server answers.
        ModelNotLoadable: The model's inputs are not one value per row and column.
    """
    from mendel.adapters.remote import announced_signature, announced_task, discover  # noqa: PLC0415 - rarely needed

    model = replace(model, model=model.model or str.__str__(name))
    if alone and task is not None:
        return LocatedModel(model=model, signature=None, task=task)
    announced = discover(model, environment=os.environ)
    signature = None if alone else announced_signature(announced)
    return LocatedModel(model=model, signature=signature, task=task or announced_task(announced))
