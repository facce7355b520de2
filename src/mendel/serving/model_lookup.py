"""Finds the deployment and the version that a caller names, or says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from mendel.errors import InvalidRequest, ModelNotFound, NotReady, VersionNotFound
from mendel.serving.loaded_deployments import LoadedDeployment, LoadedDeployments
from mendel.serving.loaded_version import LoadedVersion

_SOON: Final = timedelta(seconds=1)


class ModelLookup:
    """
    Finds what is loaded by the names that callers give.

    Args:
        default: The model of a call that names none, where several are served.
        state: That of the kernel: ``serving`` or another.
    """

    def __init__(self, deployments: LoadedDeployments, *, default: str | None, state: Callable[[], str]) -> None:
        self._deployments, self._default, self._state = deployments, default, state

    def deployment(self, model: str | None) -> LoadedDeployment:
        """
        The deployment of *model*, or of the only or default model.

        Raises:
            ModelNotFound: No such model is deployed.
            NotReady: It is deployed and not loaded yet, or it is not known yet what is deployed.
            InvalidRequest: Several models are served and none is named.
        """
        table = self._deployments.table
        name = model or self._default or (next(iter(table)) if len(table) == 1 else None)
        if name is None:
            if not table:
                raise NotReady("No model is deployed here yet.", retry_after=_SOON)
            raise InvalidRequest("Several models are served here.", remedy=f"Name one of {', '.join(sorted(table))}.")
        hosted = table.get(name)
        if hosted is None:
            raise self._why_absent(name)
        return hosted

    def _why_absent(self, name: str) -> NotReady | ModelNotFound:
        if self._state() != "serving":
            return NotReady(f"The server is {self._state()}.", retry_after=_SOON)
        unloaded = self._deployments.unloaded_models()
        if unloaded is None:
            return NotReady("This server does not know yet which models are deployed.", retry_after=_SOON)
        if name in unloaded:
            return NotReady(f"Model {name!r} is not loaded yet.", retry_after=_SOON)
        known = ", ".join(sorted(unloaded | self._deployments.table.keys()))
        return ModelNotFound(f"No model {name!r} is served here.", remedy=f"Served models: {known or 'none'}.")

    def version(self, hosted: LoadedDeployment, number: int | None) -> LoadedVersion:
        """
        Version *number* of a deployment.

        Raises:
            VersionNotFound: It is not deployed.
            NotReady: It is deployed and not loaded, or there is no version in production (None).
        """
        model = hosted.deployment.model
        version = None if number is None else hosted.versions.get(number)
        if version is not None:
            return version
        if number is None:
            raise NotReady(f"Model {model!r} has no version in production.")
        if self._deployments.is_deployed(model, number) or self._deployments.is_unloaded(model):
            raise NotReady(f"Version {number} of {model!r} is not loaded.", retry_after=_SOON)
        loaded = ", ".join(map(str, sorted(hosted.versions)))
        raise VersionNotFound(f"Version {number} of {model!r} is not served here.", remedy=f"Choose one of {loaded}.")
