"""Find the version whose calls end worker processes, so that no worker loads it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from mendel.adapters.processes.exit_codes import exit_text, sent_by_others
from mendel.serving import LoadKey, RefusedLoad, version_ref
from mendel.values import DesiredState, ModelConvergence, ModelName, VersionRef

_ENOUGH: Final = 2
_ENOUGH_HANGS: Final = 3
_WINDOW_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Death:
    """The end of a worker, and the versions whose models were being called at that moment."""

    at: float
    calls: frozenset[VersionRef]
    how: str
    hung: bool
    loading: bool


class DeadlyCalls:
    """
    The versions that were being called when workers of this server died.

    A version is at fault if it is the only one that was being called in each of the last two deaths within ten minutes,
    or of the last three if a worker hung and the supervisor had to end it; in one of them nothing else may have been
    called or loaded. Deaths that the machine or another program may have caused blame nobody. The version is refused
    until the generation or the restart epoch of its model changes.

    Args:
        steady: Gives the seconds of a monotonic clock.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._deaths: list[_Death] = []
        self._blamed: dict[LoadKey, str] = {}
        self._deployed: dict[ModelName, tuple[int, int]] = {}
        self._versions: dict[VersionRef, LoadKey] = {}

    def take(self, state: DesiredState) -> None:
        """Forget the blame of models whose generation or restart epoch changed."""
        deployments = [model.deployment for model in state.models]
        now = {one.model: (one.generation, one.restart_epoch) for one in deployments}
        kept = {model for model, epoch in now.items() if epoch == self._deployed.get(model)}
        self._blamed = {load: how for load, how in self._blamed.items() if load.model in kept}
        self._deaths = [death for death in self._deaths if all(ref.model in kept for ref in death.calls)]
        self._deployed = now
        self._versions = {
            version_ref(model.deployment.model, served.number): LoadKey(
                model=model.deployment.model, version=served.number, digest=served.artifact_digest
            )
            for model in state.models
            for served in model.versions
        }

    def lose(self, exit_code: int | None, calls: frozenset[VersionRef], *, hung: bool, loading: bool) -> bool:
        """
        Record the end of a worker; returns True if the refusals changed.

        Args:
            exit_code: Minus the number of the signal that ended the process; None if the worker was told to end.
            calls: The versions whose models were being called.
            hung: Whether the supervisor ended the worker because its event loop hung.
            loading: Whether the worker was loading a version, which can have ended it, too.
        """
        if exit_code is None or not calls or (sent_by_others(exit_code) and not hung):
            return False
        now = self._steady()
        how = "its event loop hung" if hung else exit_text(exit_code)
        self._deaths = [death for death in self._deaths if now - death.at <= _WINDOW_S and death.calls & calls]
        self._deaths.append(_Death(at=now, calls=calls, how=how, hung=hung, loading=loading))
        common = frozenset.intersection(*(death.calls for death in self._deaths))
        enough = _ENOUGH_HANGS if any(death.hung for death in self._deaths) else _ENOUGH
        if len(common) != 1 or len(self._deaths) < enough:
            return False
        (ref,) = common
        alone = any(death.calls == common and not death.loading for death in self._deaths)
        if not alone or ref not in self._versions:
            return False
        self._blamed[self._versions[ref]] = f"{how}, {len(self._deaths)} times"
        self._deaths.clear()
        return True

    def mark(self, line: ModelConvergence) -> ModelConvergence:
        """Mark *line* if its failed version is refused because of its calls."""
        blamed = any((load.model, load.version) == (line.model, line.failed_version) for load in self._blamed)
        return replace(line, ended_workers=True) if blamed else line

    @property
    def refused(self) -> tuple[RefusedLoad, ...]:
        """The versions that no worker may load."""
        return tuple(
            RefusedLoad(
                load=load,
                reason=f"Calling version {load.version} of {load.model} ended the worker process: {how}.",
                at_fault=True,
            )
            for load, how in self._blamed.items()
        )
