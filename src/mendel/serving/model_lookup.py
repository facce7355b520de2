"""Find the deployment and the loaded version that a request names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from mendel.errors import InvalidRequest, ModelNotFound, NotReady, VersionNotFound
from mendel.serving.loaded_deployments import LoadedDeployment, LoadedDeployments
from mendel.serving.loaded_version import LoadedVersion

_SOON: Final = timedelta(seconds=1)
_LATER: Final = timedelta(seconds=15)
"""A failed load is tried again after a pause that grows from 2 s to 60 s."""


class ModelLookup:
    """
    Finds loaded deployments and versions by name and number.

    Args:
        default: The model for a request that names no model when several models are served; None for no default.
        state: Gives the state of the kernel: ``created``, ``serving``, ``draining`` or ``stopped``.
    """

    def __init__(self, deployments: LoadedDeployments, *, default: str | None, state: Callable[[], str]) -> None:
        self._deployments, self._default, self._state = deployments, default, state

    def deployment(self, model: str | None) -> LoadedDeployment:
        """
        Give the deployment of *model*; None means the default model or the only model.

        Raises:
            ModelNotFound: *model* is not deployed.
            NotReady: *model* is not loaded yet, or this server has received no desired state yet.
            InvalidRequest: *model* is None, several models are served, and no model is the default.
        """
        table = self._deployments.table
        known = table.keys() | (self._deployments.models() or frozenset())
        name = model or self._default or (next(iter(known)) if len(known) == 1 else None)
        if name is None:
            if not known:
                raise NotReady("No model is deployed on this server yet.", retry_after=_SOON)
            raise InvalidRequest(
                "The request names no model, and this server serves several models.",
                remedy=f"Name one of the models: {', '.join(sorted(known))}.",
            )
        hosted = table.get(name)
        if hosted is None:
            raise self._why_absent(name)
        return hosted

    def _why_absent(self, name: str) -> NotReady | ModelNotFound:
        if self._state() != "serving":
            return NotReady(f"The server is {self._state()}.", retry_after=_SOON)
        known = self._deployments.models()
        if known is None:
            return NotReady("This server does not know yet which models are deployed.", retry_after=_SOON)
        if name in known:
            why = self._deployments.why_not_serving(name)
            if why is None:
                return NotReady(f"Model {name!r} is not loaded yet.", retry_after=_SOON)
            return NotReady(f"Model {name!r} could not be loaded: {why}", retry_after=_LATER)
        served = ", ".join(sorted(known))
        return ModelNotFound(
            f"This server serves no model {name!r}.", remedy=f"Name one of the served models: {served or 'none'}."
        )

    def version(self, hosted: LoadedDeployment, number: int | None) -> LoadedVersion:
        """
        Give the loaded version *number* of a deployment.

        Args:
            number: The number of a version; None when the model has no production version, which raises NotReady.

        Raises:
            VersionNotFound: The version is not deployed.
            NotReady: The version is not loaded yet, the model has no production version, or the server is starting.
        """
        model = hosted.deployment.model
        version = None if number is None else hosted.versions.get(number)
        if version is not None:
            starting = self._deployments.starting()
            if starting is not None:
                raise NotReady(f"This server is starting: {starting}.", retry_after=_SOON)
            return version
        if number is None:
            raise NotReady(f"Model {model!r} has no version in production.")
        if (wait := self._deployments.no_room(model)) is not None:
            why = self._deployments.why_not_serving(model)
            raise NotReady(f"Version {number} of {model!r} is not loaded: {why}", retry_after=wait)
        if self._deployments.is_deployed(model, number) or self._deployments.is_unloaded(model):
            report = self._deployments.convergence.get(model)
            if report is not None and report.failed_version == number and report.error is not None:
                text = f"Version {number} of {model!r} could not be loaded: {report.error}"
                raise NotReady(text, retry_after=_LATER)
            raise NotReady(f"Version {number} of {model!r} is not loaded.", retry_after=_SOON)
        loaded = ", ".join(map(str, sorted(hosted.versions)))
        raise VersionNotFound(
            f"This server does not serve version {number} of model {model!r}.",
            remedy=f"Choose one of the loaded versions: {loaded}.",
        )
