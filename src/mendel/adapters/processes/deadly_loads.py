"""Keep track of loads during which worker processes died, and decide which loads workers may try again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mendel.adapters.processes.exit_codes import exit_text, sent_by_others
from mendel.serving import LoadKey, RefusedLoad
from mendel.values import DesiredState, ModelName

_ENOUGH: Final = 2
_MANY: Final = 5
_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOrders:
    """
    The instructions of one worker about dangerous loads.

    Attributes:
        trials: Loads that the worker runs one at a time, before it opens its doors.
        refused: Loads that the worker must not try.
    """

    trials: tuple[LoadKey, ...] = ()
    refused: tuple[RefusedLoad, ...] = ()


@dataclass(slots=True)
class _Deaths:
    """
    The deaths of workers during one load.

    Attributes:
        count: The number of all deaths.
        certain: The number of deaths that only this load can have caused: nothing else was loaded, no request was
            answered, and the process was not killed from outside.
        suspect: True until the load has ended in a living worker.
        pauses: The number of pauses so far; ``until`` is the end of the current pause, None outside of a pause.
    """

    count: int = 0
    certain: int = 0
    how: str = ""
    suspect: bool = True
    pauses: int = 0
    until: float | None = None

    @property
    def proven(self) -> bool:
        return self.certain >= 1 and self.count >= _ENOUGH


class DeadlyLoads:
    """
    The loads during which workers of this server died.

    After the first death, one worker tries the load alone, before it opens its doors; the other workers keep serving
    their versions. After the second death, the load is refused until the model's generation or restart epoch changes.
    If a worker was killed from outside, the load may not be the cause: the load is tried again after a pause that grows
    from 1 minute to 1 hour.

    Args:
        steady: Gives the seconds of a monotonic clock.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._loading: dict[int, frozenset[LoadKey]] = {}
        self._deaths: dict[LoadKey, _Deaths] = {}
        self._deployed: dict[ModelName, tuple[int, int]] = {}
        self._trier: int | None = None

    def take(self, state: DesiredState) -> None:
        """Forget the deaths of models whose generation or restart epoch changed."""
        deployments = [model.deployment for model in state.models]
        now = {one.model: (one.generation, one.restart_epoch) for one in deployments}
        self._deaths = {
            key: deaths
            for key, deaths in self._deaths.items()
            if key.model in now and now[key.model] == self._deployed.get(key.model)
        }
        self._deployed = now

    def note_loading(self, slot: int, loads: frozenset[LoadKey]) -> bool:
        """Record the loads that the worker of *slot* runs now; returns True if the orders of workers changed."""
        ended = self._loading.get(slot, frozenset()) - loads
        self._loading[slot] = loads
        cleared = [self._deaths[key] for key in ended if key in self._deaths and self._deaths[key].suspect]
        for deaths in cleared:
            deaths.suspect = False
        return bool(cleared)

    def loading(self, slot: int) -> bool:
        """Whether the worker of *slot* runs a load."""
        return bool(self._loading.get(slot))

    def lose(self, slot: int, exit_code: int | None, *, answering: bool) -> bool:
        """
        Record the end of the worker of *slot*; returns True if the orders of workers changed.

        Args:
            exit_code: Minus the number of the signal that ended the process; None if the worker was told to end, or if
                something else is known to have ended it.
            answering: Whether the doors of the worker were open and it served a model, so that a request may have ended
                the process.
        """
        loads = self._loading.pop(slot, frozenset())
        if exit_code is None:
            self._trier = None if self._trier == slot else self._trier
            return False
        if not loads:
            return False
        external = sent_by_others(exit_code)
        for key in loads:
            deaths = self._deaths.setdefault(key, _Deaths())
            deaths.count += 1
            deaths.certain += int(len(loads) == 1 and not answering and not external)
            deaths.how, deaths.suspect = exit_text(exit_code), True
            if not deaths.proven and deaths.count >= (_ENOUGH if external else _MANY):
                deaths.until = self._steady() + min(_FIRST_PAUSE_S * 2**deaths.pauses, _LONGEST_PAUSE_S)
                deaths.pauses += 1
        if self._trier is None or not self._loading.get(self._trier):
            self._trier = slot  # the next worker of this slot has closed doors
        return True

    def end_pauses(self) -> bool:
        """End the pauses whose time has passed; returns True if the orders of workers changed."""
        over = [one for one in self._deaths.values() if one.until is not None and one.until <= self._steady()]
        for deaths in over:
            deaths.until = None
        return bool(over)

    def orders(self, slot: int) -> LoadOrders:
        """Give the orders of the worker of *slot*."""
        suspects = {key: deaths for key, deaths in self._deaths.items() if deaths.suspect}
        if suspects and self._trier is None:
            self._trier = slot
        barred = {
            key: deaths
            for key, deaths in suspects.items()
            if deaths.proven or deaths.until is not None or slot != self._trier
        }
        return LoadOrders(
            trials=tuple(key for key in suspects if key not in barred),
            refused=tuple(_refused(key, deaths) for key, deaths in barred.items()),
        )


def _refused(key: LoadKey, deaths: _Deaths) -> RefusedLoad:
    text = f"Loading version {key.version} of {key.model} ended the worker process: {deaths.how}"
    if deaths.proven:
        return RefusedLoad(load=key, reason=f"{text}, {deaths.count} times.", at_fault=True)
    if deaths.until is not None:
        return RefusedLoad(load=key, reason=f"{text}, {deaths.count} times. The load is tried again later.")
    return RefusedLoad(load=key, reason=f"{text}. One worker tries the load again first.")
