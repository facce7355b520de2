"""All kinds of backends in which a server runs predictors, and the choice among them. To add a backend, add it here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mendel.adapters.processes.model_processes import SOCKET
from mendel.adapters.processes.process_backend import ProcessLoads
from mendel.adapters.remote import RemoteLoads
from mendel.adapters.threads import AcceleratedLoads, load_in_thread
from mendel.projects import Project
from mendel.serving import Backend, LoadBackend, Mlmodel, ServingPolicy, read_mlmodel, require_digest
from mendel.values import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendContext:
    """
    What backends need of the server.

    Attributes:
        run: The server's directory of local sockets.
    """

    run: Path
    policy: ServingPolicy


BACKENDS: Final[Mapping[str, Callable[[BackendContext], LoadBackend]]] = {
    "thread": lambda _: load_in_thread,
    "accelerated": lambda _: AcceleratedLoads(),
    "process": lambda context: ProcessLoads(
        context.run / SOCKET, context.policy, interpreter=context.policy.model_python
    ),
    "remote": lambda context: RemoteLoads(context.policy, environment=os.environ),
}
"""By the name of the kind: gives a function that loads artefacts into backends of one worker process."""


def chosen_loads(context: BackendContext) -> LoadBackend:
    """Give a function that loads each artefact into the backend that its project, or the server's policy, names."""
    loads = {kind: make(context) for kind, make in BACKENDS.items()}

    def load(directory: Path, *, digest: Digest | None, project: Project | None) -> Backend:
        require_digest(directory, digest)
        kind = backend_kind(read_mlmodel(directory), project, context.policy)
        return loads[kind](directory, digest=None, project=project)

    return load


def backend_kind(mlmodel: Mlmodel, project: Project | None, policy: ServingPolicy) -> str:
    """
    Choose the backend of an artefact: ``predictor.backend`` of its classifier goes before the server's policy.

    Args:
        project: The project whose code the artefact may need; None when this server hosts no project.
    """
    if "remote" in mlmodel.flavors:
        return "remote"
    name = mlmodel.classifier
    own = project.classifier(name).predictor.backend if project is not None and name in project.names else None
    if (own or policy.backend) == "process":
        return "process"
    return "thread" if policy.accelerate == "off" else "accelerated"
