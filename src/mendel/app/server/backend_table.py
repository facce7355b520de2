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
from mendel.app.environment import cache_directory, system_environment
from mendel.app.images.environments import LockEnvironments
from mendel.projects import Project
from mendel.serving import (
    Backend,
    Environments,
    LoadBackend,
    Mlmodel,
    ServingPolicy,
    project_of,
    read_mlmodel,
    require_digest,
)
from mendel.values import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendContext:
    """
    What backends need of the server.

    Attributes:
        run: The server's directory of local sockets.
        environments: The Python environments of artefacts with a lock.
    """

    run: Path
    policy: ServingPolicy
    environments: Environments


BACKENDS: Final[Mapping[str, Callable[[BackendContext], LoadBackend]]] = {
    "thread": lambda _: load_in_thread,
    "accelerated": lambda _: AcceleratedLoads(),
    "process": lambda context: ProcessLoads(context.run / SOCKET, context.policy, environments=context.environments),
    "remote": lambda context: RemoteLoads(context.policy, environment=os.environ),
}
"""By the name of the kind: gives a function that loads artefacts into backends of one worker process."""


def server_environments(policy: ServingPolicy) -> Environments:
    """Give the environments of a server; their files are in the user's cache."""
    return LockEnvironments(lambda: cache_directory(system_environment()), builds=policy.makes_environments)


def chosen_loads(context: BackendContext) -> LoadBackend:
    """Give a function that loads each artefact into the backend that its project, or the server's policy, names."""
    loads = {kind: make(context) for kind, make in BACKENDS.items()}

    def load(directory: Path, *, digest: Digest | None, project: Project | None) -> Backend:
        require_digest(directory, digest)
        kind = backend_of(directory, project, context)
        return loads[kind](directory, digest=None, project=project)

    return load


def backend_of(directory: Path, project: Project | None, context: BackendContext) -> str:
    """
    Choose the backend of the artefact in *directory*; one with an environment of its own needs a process.

    Args:
        project: The project that this server hosts, or None.
    """
    if context.environments.python_of(directory) is not None:
        return "process"
    mlmodel = read_mlmodel(directory)
    return backend_kind(mlmodel, project_of(directory, mlmodel, project), context.policy)


def backend_kind(mlmodel: Mlmodel, project: Project | None, policy: ServingPolicy) -> str:
    """
    Choose the backend of an artefact: ``predictor.backend`` of its classifier goes before the server's policy.

    Without either, the code of a project runs in a process, because nobody knows what it does.

    Args:
        project: The project with whose code the artefact runs; None for a model without a project.
    """
    if "remote" in mlmodel.flavors:
        return "remote"
    name = mlmodel.classifier
    own = project.classifier(name).predictor.backend if project is not None and name in project.names else None
    usual = "thread" if name is None else "process"
    if (own or (usual if policy.backend == "auto" else policy.backend)) == "process":
        return "process"
    return "thread" if policy.accelerate == "off" else "accelerated"
