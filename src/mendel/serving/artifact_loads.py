"""Load artefacts in threads, with limits on time and memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mendel.errors import MendelError, ModelNotLoadable, NotReady, NotSwappable
from mendel.serving.entities import LoadKey, RefusedLoad
from mendel.serving.loaded_version import KernelContext, LoadedArtifact, footprint, load_artifact
from mendel.serving.memory_budget import Claim, MemoryBudget
from mendel.serving.model_faults import not_loadable
from mendel.serving.process_memory import resident_bytes
from mendel.values import Digest, ModelName, ServedVersion

Fetch = Callable[[Digest], Path]
MakeRoom = Callable[[LoadKey, int], Awaitable[None]]
"""Unloads idle models to free so many bytes for a load; raises NotReady when that is not possible now."""
_SLOW_S: Final = 2.0
_TRIAL_S: Final = 30.0
_TICK_S: Final = 0.5


@dataclass(slots=True, eq=False)
class _Load:
    """
    A load that runs, or that has ended and whose result was not fetched yet.

    ``spent`` counts the seconds in which the process waited for the load since the last timeout.
    """

    result: asyncio.Future[LoadedArtifact]
    spent: float = 0.0


class ArtifactLoads:
    """
    The loads of one process.

    Loads run one after the other, so that requests get processor time while many models load. When a load has taken
    2 s, the next load starts beside it, so that a slow model does not delay other models.

    Each load claims a part of ``policy.memory_budget_bytes``: before it begins, the size of the files, or the least
    memory that an earlier load of the artefact took; afterwards the measured memory, if it is larger. The memory of a
    model in a thread is measured as the growth of this process, which imports, requests and other loads also cause. So
    a load that exceeds the budget is tried again later, and the measurement counts for later loads only if no other
    load ran and it is within the budget.

    A load that takes longer than ``policy.load_timeout`` counts as failed. Its thread cannot be stopped and continues;
    a later attempt to load the same artefact starts no second thread, and waits for the first thread until the timeout
    has passed again. Time in which the process was suspended does not count.

    Args:
        make_room: Called on the event loop when a load does not fit into ``policy.memory_budget_bytes``.
    """

    def __init__(self, context: KernelContext, *, make_room: MakeRoom) -> None:
        self._context = context
        self._make_room = make_room
        self._budget = MemoryBudget(context.policy.memory_budget_bytes)
        self._measured: dict[Digest, int] = {}
        self._turn = asyncio.Lock()
        self._loads: dict[LoadKey, _Load] = {}
        self._running: dict[LoadKey, asyncio.Future[LoadedArtifact]] = {}
        self._begun = 0
        self._trials: frozenset[LoadKey] = frozenset()
        self._refused: dict[LoadKey, RefusedLoad] = {}

    def restrict(self, *, trials: Collection[LoadKey], refused: Collection[RefusedLoad]) -> None:
        """Run *trials* while no other load runs, and fail the *refused* loads without trying them."""
        self._trials = frozenset(trials)
        self._refused = {one.load: one for one in refused}

    async def load(self, model: ModelName, served: ServedVersion, fetch: Fetch) -> LoadedArtifact:
        """
        Load the artefact of *served*; if the call is cancelled, the load continues, and the next call gets its result.

        Raises:
            ModelNotLoadable: The load takes longer than ``policy.load_timeout``, the artefact cannot be loaded, or the
                load is refused because it ended worker processes.
            NotReady: The load is refused for now, or there is no room in the memory budget now.
            NotSwappable: The files, or the model's own process, are larger than the whole memory budget.
        """
        key = _key_of(model, served)
        load = await self._under_way(key, served, fetch)
        if not await self._ends_in_time(load):
            load.spent = 0.0
            timeout = self._context.policy.load_timeout
            raise ModelNotLoadable(
                f"Loading version {served.number} of {model} takes longer than {timeout.total_seconds():g} s.",
                remedy="Raise serving.load_timeout, or make the version load faster.",
            )
        del self._loads[key]
        return load.result.result()

    async def try_first(self, model: ModelName, served: ServedVersion, fetch: Fetch) -> None:
        """
        Run the load of *served* if it is a trial, and wait until it has ended, at most 30 s.

        A process that does this before it loads anything else runs no other code that could end the process. A later
        call of :meth:`load` gives the result.
        """
        key = _key_of(model, served)
        if key in self._trials:
            with suppress(ModelNotLoadable, NotReady):
                load = await self._under_way(key, served, fetch)
                await asyncio.wait([load.result], timeout=_TRIAL_S)

    async def _under_way(self, key: LoadKey, served: ServedVersion, fetch: Fetch) -> _Load:
        load = self._loads.get(key)
        if load is None:
            await self._take_turn(key)
            load = self._loads[key] = self._begin(key, served, fetch)
        return load

    async def _take_turn(self, key: LoadKey) -> None:
        await self._turn.acquire()
        try:
            if key in self._trials and self._running:
                await asyncio.wait(self._running.values(), timeout=self._context.policy.load_timeout.total_seconds())
            self._check_allowed(key)
        except BaseException:
            self._turn.release()
            raise

    def _check_allowed(self, key: LoadKey) -> None:
        if (refused := self._refused.get(key)) is not None:
            raise (ModelNotLoadable if refused.at_fault else NotReady)(refused.reason)

    async def _ends_in_time(self, load: _Load) -> bool:
        limit, steady = self._context.policy.load_timeout.total_seconds(), self._context.steady
        while load.spent < limit and not load.result.done():
            began = steady()
            await asyncio.wait([load.result], timeout=min(_TICK_S, limit - load.spent))
            load.spent += min(steady() - began, 2 * _TICK_S)
        return load.result.done()

    def abandon(self, model: ModelName, *, keep: Collection[tuple[int, Digest]] = ()) -> None:
        """Discard the results of the loads of *model*, except of the versions *keep* (number, artefact digest)."""
        for key in [key for key in self._loads if key.model == model and (key.version, key.digest) not in keep]:
            self._loads.pop(key).result.add_done_callback(_discard)

    def _begin(self, key: LoadKey, served: ServedVersion, fetch: Fetch) -> _Load:
        """Start the thread of a load; the next may start when this one ends, or after 2 s (a trial: 30 s)."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[LoadedArtifact] = loop.create_future()
        turn = _Once(self._turn.release)
        result.add_done_callback(lambda _: turn())
        loop.call_later(_TRIAL_S if key in self._trials else _SLOW_S, turn)
        self._running[key] = result
        self._begun += 1
        self._context.announce(frozenset(self._running))

        def finish(artifact: LoadedArtifact | None, error: MendelError | None) -> None:
            if self._running.get(key) is result:
                del self._running[key]
            self._context.announce(frozenset(self._running))
            if artifact is not None:
                result.set_result(artifact)
            elif error is not None:
                result.set_exception(error)

        def run() -> None:
            artifact, error = None, None
            try:
                artifact = self._load_now(key, served, fetch, loop)
            except MendelError as failed:
                error = failed
            except BaseException as failed:  # noqa: BLE001 - whatever the model's code raises is the model's fault
                error = not_loadable("Loading the model", failed)
                error.__cause__ = failed
            try:
                loop.call_soon_threadsafe(finish, artifact, error)
            except RuntimeError:  # the server has ended meanwhile
                if artifact is not None:
                    artifact.end()

        threading.Thread(target=run, name=f"mendel-load-{key.model}-{key.version}", daemon=True).start()
        return _Load(result=result)

    def _load_now(
        self, key: LoadKey, served: ServedVersion, fetch: Fetch, loop: asyncio.AbstractEventLoop
    ) -> LoadedArtifact:
        directory = fetch(served.artifact_digest)
        share = max(1, self._context.policy.workers) if self._context.is_shared(directory) else 1
        claim = self._claim(key, self._measured.get(key.digest, -(-footprint(directory) // share)), loop)
        try:
            begun, alone = self._begun, len(self._running) == 1
            before = resident_bytes()
            artifact = load_artifact(directory, served, self._context)
        except BaseException:
            claim.release()
            raise
        after = resident_bytes()
        grown = None if before is None or after is None else max(0, after - before)
        own = artifact.backend.place.memory_bytes
        memory = grown if own is None else own // max(1, self._context.policy.workers)
        artifact = replace(artifact, memory_bytes=memory, claim=claim)
        beyond = claim.resize(max(claim.size_bytes, memory or 0))
        limit = self._budget.limit_bytes
        alone = alone and self._begun == begun and (limit is None or claim.size_bytes <= limit)
        if own is not None or alone:
            self._measured[key.digest] = min(claim.size_bytes, self._measured.get(key.digest, claim.size_bytes))
        try:
            while beyond > 0:
                self._wait_for_room(key, beyond, loop)
                beyond = claim.resize(claim.size_bytes)
        except BaseException:
            artifact.end()
            raise
        return artifact

    def _claim(self, key: LoadKey, size: int, loop: asyncio.AbstractEventLoop) -> Claim:
        """Claim memory before the load begins; idle models are unloaded if this makes enough room."""
        limit = self._budget.limit_bytes
        if limit is not None and size > limit:
            raise NotSwappable(
                f"Version {key.version} of model {key.model} needs {size} bytes of memory in each worker, whose share "
                f"of serving.memory_budget_bytes is {limit}.",
                remedy="Raise serving.memory_budget_bytes.",
            )
        while isinstance(claimed := self._budget.claim(size), int):
            self._wait_for_room(key, claimed, loop)
        return claimed

    def _wait_for_room(self, key: LoadKey, missing: int, loop: asyncio.AbstractEventLoop) -> None:
        async def made() -> None:
            await self._make_room(key, missing)

        asyncio.run_coroutine_threadsafe(made(), loop).result()


def _key_of(model: ModelName, served: ServedVersion) -> LoadKey:
    return LoadKey(model=model, version=served.number, digest=served.artifact_digest)


class _Once:
    """Calls *act* at the first call, and does nothing at later calls."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def __call__(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()


def _discard(result: asyncio.Future[LoadedArtifact]) -> None:
    if not result.cancelled() and result.exception() is None:
        with suppress(RuntimeError):  # no executor any more: the process ends, and the memory goes with it
            result.get_loop().run_in_executor(None, result.result().end)
