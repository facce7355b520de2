"""Pass requests to load or unload a model from one worker to the supervisor, and from there to every worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

import mendel.errors as tree
from mendel.adapters.processes.parent_channel import Channel
from mendel.adapters.processes.server_state import ModelFromPath, ServerState
from mendel.adapters.processes.worker_messages import (
    RepositoryAction,
    RepositoryCommand,
    RepositoryRequest,
    RepositoryResult,
)
from mendel.adapters.processes.worker_pool import Worker
from mendel.durable import Clock
from mendel.errors import AlreadyExists, InvalidRequest, MendelError, ModelNotFound, NotReady
from mendel.serving import model_directory, model_from_directory
from mendel.values import ModelName

_LONGEST_PATH: Final = 4096
_KINDS: Final = (
    tree.AlreadyExists,
    tree.Forbidden,
    tree.InvalidInput,
    tree.ModelNotFound,
    tree.NotReady,
)


class RepositoryCalls:
    """
    Implements :class:`mendel.serving.RepositoryControl` in a worker.

    Args:
        channel: The message channel to the supervisor.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[RepositoryResult]] = {}

    async def load(self, model: ModelName, *, path: str | None = None) -> None:
        if len(path or "") > _LONGEST_PATH:
            raise InvalidRequest(f"The model path has more than {_LONGEST_PATH} characters.")
        await self._ask(RepositoryAction.LOAD, model, path or "")

    async def unload(self, model: ModelName) -> int | None:
        return (await self._ask(RepositoryAction.UNLOAD, model)).freed_bytes

    def take(self, result: RepositoryResult) -> None:
        """Give *result*, which the supervisor sent, to the call that waits for it."""
        waiting = self._waiting.get(result.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    async def _ask(self, action: RepositoryAction, model: ModelName, path: str = "") -> RepositoryResult:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._channel.say(RepositoryRequest(number=number, action=action, model=model, path=path))
            result = await self._waiting[number]
        finally:
            del self._waiting[number]
        if result.error is not None:
            raise _error(result)
        return result


class RepositoryRequests:
    """
    Executes the workers' requests, in the supervisor.

    A request is answered when every running worker has executed the request or has ended. A worker that starts later
    starts with the state after the request.

    Args:
        roots: The directories below which models may be loaded by path.
        workers: A function that returns all running workers.
        tell: A function that sends the current desired state of the server to all workers again.
    """

    def __init__(
        self,
        state: ServerState,
        roots: Sequence[Path],
        *,
        workers: Callable[[], Sequence[Worker]],
        tell: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._state = state
        self._roots = roots
        self._workers = workers
        self._tell = tell
        self._clock = clock
        self._numbers = count(1)
        self._waiting: dict[tuple[int, int], asyncio.Future[RepositoryResult | None]] = {}
        self._turns: dict[ModelName, asyncio.Lock] = {}

    async def carry_out(self, request: RepositoryRequest) -> RepositoryResult:
        """Load or unload a model in every worker; an error is part of the result."""
        try:
            async with self._turns.setdefault(request.model, asyncio.Lock()):
                if request.action is RepositoryAction.UNLOAD:
                    freed = await self._unload(request.model)
                    return RepositoryResult(number=request.number, freed_bytes=freed)
                await self._load(request.model, request.path)
        except MendelError as error:
            kind = next((kind for kind in _KINDS if isinstance(error, kind)), NotReady).__name__
            return RepositoryResult(number=request.number, error=error.message, kind=kind, remedy=error.remedy)
        return RepositoryResult(number=request.number)

    def take(self, slot: int, result: RepositoryResult) -> None:
        """Record that the worker of *slot* has executed a command."""
        waiting = self._waiting.get((result.number, slot))
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def lose(self, slot: int) -> None:
        """Record that the worker of *slot* has ended, so that no command waits for it."""
        for (_, whose), waiting in self._waiting.items():
            if whose == slot and not waiting.done():
                waiting.set_result(None)

    async def _load(self, model: ModelName, path: str) -> None:
        former, unloaded = self._state.from_path.get(model), model in self._state.unloaded
        if path:
            await self._take_path(model, path)
        elif former is None and not self._state.is_deployed(model):
            raise ModelNotFound(f"No model {model!r} is deployed here.", remedy="Deploy the model, or load it by path.")
        self._state.unloaded -= {model}
        try:
            await self._command(RepositoryAction.LOAD, model)
        except MendelError:
            if path:
                self._put_back(model, former, unloaded=unloaded)
            raise

    async def _unload(self, model: ModelName) -> int | None:
        if model not in self._state.from_path and not self._state.is_deployed(model):
            raise ModelNotFound(f"No model {model!r} is deployed here.")
        self._state.unloaded |= {model}
        results = await self._command(RepositoryAction.UNLOAD, model)
        if model in self._state.from_path:
            self._put_back(model, None, unloaded=False)
        freed = [result.freed_bytes for result in results if result.freed_bytes is not None]
        return sum(freed) if freed else None

    async def _take_path(self, model: ModelName, path: str) -> None:
        self._require_free(model)
        directory = await asyncio.to_thread(model_directory, path, self._roots)
        former = self._state.from_path.get(model)
        attempt = 1 if former is None else 1 - former.desired.deployment.generation
        now: datetime = self._clock()
        desired = await asyncio.to_thread(model_from_directory, model, directory, attempt=attempt, now=now)
        self._require_free(model)  # the hub may have deployed it meanwhile
        self._state.from_path[model] = ModelFromPath(desired=desired, directory=directory)

    def _require_free(self, model: ModelName) -> None:
        if self._state.is_deployed(model):
            raise AlreadyExists(
                f"Model {model!r} is deployed; a load by path does not replace it.", remedy="Choose another name."
            )

    def _put_back(self, model: ModelName, former: ModelFromPath | None, *, unloaded: bool) -> None:
        if self._state.is_deployed(model):  # the hub deployed it meanwhile, which counts
            return
        if former is None:
            self._state.from_path.pop(model, None)
        else:
            self._state.from_path[model] = former
        self._state.unloaded = self._state.unloaded - {model} | ({model} if unloaded else set())
        self._tell()

    async def _command(self, action: RepositoryAction, model: ModelName) -> list[RepositoryResult]:
        """Send the command to every worker, and wait for all results."""
        self._tell()
        number = next(self._numbers)
        command = RepositoryCommand(number=number, action=action, model=model)
        asked = {}
        for worker in self._workers():
            asked[number, worker.slot] = asyncio.get_running_loop().create_future()
            worker.child.send(command)
        self._waiting.update(asked)
        try:
            results = await asyncio.gather(*asked.values())
        finally:
            for key in asked:
                del self._waiting[key]
        done = [result for result in results if result is not None]
        failed = next((result for result in done if result.error is not None), None)
        if failed is not None:
            raise _error(failed)
        if not done:
            raise NotReady("No worker of this server runs.", remedy="Try again.")
        return done


def _error(result: RepositoryResult) -> MendelError:
    kind = next((kind for kind in _KINDS if kind.__name__ == result.kind), NotReady)
    return kind(result.error or "", remedy=result.remedy)
