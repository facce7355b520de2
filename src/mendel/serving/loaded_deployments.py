"""Load and unload model versions until they match the desired state that the hub sent."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

import structlog

from mendel.errors import MendelError, ModelError, ModelNotFound, NeedsNewImage, NotReady
from mendel.serving.artifact_loads import ArtifactLoads, Fetch
from mendel.serving.entities import BackendPlace, LoadKey, RefusedLoad, ServerIdentity
from mendel.serving.loaded_version import KernelContext, LoadedVersion
from mendel.serving.memory_budget import NoRoom, Resident, make_room
from mendel.serving.metrics import LOAD_TIME, LOADED, Histogram, series
from mendel.serving.process_memory import resident_bytes, return_free_memory
from mendel.serving.unregistered_version import is_registered
from mendel.values import Deployment, DesiredModel, DesiredState, ModelConvergence, ModelName, ServedVersion

_log = structlog.get_logger("mendel.serving")
_OF_PROJECT: Final = "mendel"
_NO_ROOM: Final = "serving.memory_budget_bytes has no room now beside the models in use."
_NAMED: Final = 5
"""The largest number of models that the message about loading models names."""
_REPEATED_S: Final = 1.0
"""Two failures within this time count as one; the pause before a retry is longer."""
_MACHINE_FAULTS: Final = (MemoryError, ConnectionError, TimeoutError)
_MACHINE_ERRNOS: Final = frozenset(
    (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedDeployment:
    """A deployment and its loaded versions by number; immutable, so that a request sees one consistent state."""

    deployment: Deployment
    versions: Mapping[int, LoadedVersion]

    @property
    def registered(self) -> tuple[str, ...]:
        """The numbers of the loaded versions, as text, without a version that is not registered."""
        return tuple(str(number) for number, version in sorted(self.versions.items()) if is_registered(version.served))

    @property
    def serving(self) -> bool:
        """True when the production version is loaded and its backend runs; without a canary, it gets all traffic."""
        production = self.deployment.production
        return production is None or (production in self.versions and self.died is None)

    @property
    def complete(self) -> bool:
        """True when every version with a share of the traffic is loaded."""
        return all(route.version in self.versions for route in self.deployment.routes)

    @property
    def died(self) -> str | None:
        """The reason why the backend of the production version stopped; None while the backend runs."""
        production = self.versions.get(self.deployment.production or 0)
        return None if production is None else production.died

    @property
    def unready(self) -> str | None:
        """The reason why calls of the production version fail now; None when it can answer."""
        production = self.versions.get(self.deployment.production or 0)
        return None if production is None else production.unready

    @property
    def idle(self) -> bool:
        """True when no request waits for a version or is being answered."""
        return all(version.idle for version in self.versions.values())

    def answering(self, number: int) -> int:
        """Give *number* if this version is loaded and its backend runs, else the number of the production version."""
        version = self.versions.get(number)
        runs = version is not None and version.died is None
        return number if runs else self.deployment.production or number


@dataclass(slots=True)
class _Failures:
    """
    The load failure that is reported for a model: the failure of the production version, else of another version.

    ``vital`` is True for a failure of the production version, because the old versions must then keep serving.
    ``no_room_until`` is the time, in seconds of the monotonic clock, before which there is no room for it in memory.
    """

    version: int | None = None
    error: str | None = None
    detail: str | None = None
    difference_id: str = ""
    at_fault: bool = False
    vital: bool = False
    no_room_until: float | None = None

    def note(self, version: int, error: MendelError, *, vital: bool) -> None:
        if self.version is None or vital:
            self.version, self.error, self.vital = version, str(error), vital
            self.detail = getattr(error, "detail", "") or None
            self.difference_id = getattr(error, "difference_id", "")
            self.at_fault = is_at_fault(error)
            self.no_room_until = error.until if isinstance(error, _NoRoomNow) else None


class _NoRoomNow(NotReady):
    """The memory budget has no room for a version before ``until``, a second of the monotonic clock."""

    def __init__(self, message: str, *, until: float, retry_after: timedelta) -> None:
        remedy = "Raise serving.memory_budget_bytes, or unload a model."
        super().__init__(message, retry_after=retry_after, remedy=remedy)
        self.until = until


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The newest desired state, with the function that fetches its artefacts."""

    fetch: Fetch
    models: Mapping[ModelName, DesiredModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aim:
    """The task that loads the versions of *desired* for one model, or unloads a model that a client unloaded."""

    desired: DesiredModel
    unloaded: bool
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evicted:
    """
    A model without loaded versions, because the memory budget has no room for it or other models needed its room.

    ``again_at`` is the second of the monotonic clock before which another attempt to load the model would fail.
    """

    desired: DesiredModel
    again_at: float


class LoadedDeployments:
    """
    The loaded versions of one process.

    Each model converges in a separate task, so that a slow load, or a newer deployment during a load, does not delay
    other models.

    ``table`` is replaced as a whole: code that holds a reference sees one consistent state.
    """

    def __init__(self, context: KernelContext) -> None:
        self._context = context
        self._loads = ArtifactLoads(context, make_room=self._make_room)
        self._aims: dict[ModelName, _Aim] = {}
        self._retiring: dict[asyncio.Task[None], ModelName] = {}
        self._failed_at: dict[ModelName, float] = {}
        self._unloaded: frozenset[ModelName] = frozenset()
        self._freed: dict[ModelName, int | None] = {}
        self._evicted: dict[ModelName, _Evicted] = {}
        self._wanted: _Wanted | None = None
        self._expected: Mapping[ModelName, str | None] | None = None
        self._resumed = False
        self._started = False
        self._loaded = context.counters.reserve(series(LOADED))
        self._load_time = Histogram(context.counters, LOAD_TIME)
        self.table: Mapping[str, LoadedDeployment] = MappingProxyType({})
        self.convergence: dict[ModelName, ModelConvergence] = {}
        self.revision: int | None = None

    def expect(
        self, models: Mapping[ModelName, str | None], *, unloaded: Iterable[ModelName] = (), resumed: bool = False
    ) -> None:
        """
        Declare all deployed models before :meth:`apply` loads them.

        Args:
            models: Every deployed model, with the error if its artefact could not be fetched, else None.
            unloaded: The models that must not be loaded, because a client unloaded them.
            resumed: Count as started with the first model, so that each model answers as soon as it is loaded.
        """
        self._resumed = resumed
        self._expected = dict(models)
        self._unloaded = frozenset(unloaded)

    def restrict_loads(self, *, trials: Collection[LoadKey], refused: Collection[RefusedLoad]) -> None:
        """Run *trials* while no other load runs, and fail the *refused* loads without trying them."""
        self._loads.restrict(trials=trials, refused=refused)

    async def try_first(self, state: DesiredState, fetch: Fetch) -> None:
        """Run the trials among the loads of *state* one after the other, before this process loads anything else."""
        for desired in state.models:
            for served in desired.versions:
                await self._loads.try_first(desired.deployment.model, served, fetch)

    def models(self) -> frozenset[ModelName] | None:
        """Give every deployed model, loaded or not; None before the desired state has arrived."""
        if self._expected is None and self._wanted is None:
            return None
        return frozenset(self._expected or ()) | frozenset(() if self._wanted is None else self._wanted.models)

    def starting(self) -> str | None:
        """
        Explain why this process has not started to serve; None once it has started.

        It has started when each deployed model is loaded, has failed to load, or was unloaded by a client; a process
        that resumes the work of another has started when this holds for one model.
        """
        if self._started:
            return None
        models = self.models()
        if models is None or self._wanted is None:
            return "it does not know yet which models are deployed"
        waiting = sorted(name for name in models if self.why_not_serving(name) is None and not self._serves(name))
        if waiting and not (self._resumed and len(waiting) < len(models)):
            more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
            return f"not loaded yet: {', '.join(waiting[:_NAMED])}{more}"
        self._started = True
        return None

    def why_not_serving(self, model: str) -> str | None:
        """Explain why the deployed *model* failed to load or stopped; None while it serves or loads."""
        hosted, name = self.table.get(model), ModelName(model)
        if name in self._evicted:
            return f"{_NO_ROOM} A request loads the model again when there is room."
        if hosted is not None and hosted.versions:
            return hosted.died
        report = self.convergence.get(name)
        return (report and report.error) or (self._expected or {}).get(name)

    def _serves(self, model: ModelName) -> bool:
        hosted = self.table.get(model)
        return hosted is not None and (hosted.serving or self.is_unloaded(model))

    def is_deployed(self, model: ModelName, number: int) -> bool:
        """Tell whether the desired state of *model* contains version *number*, loaded or not."""
        desired = None if self._wanted is None else self._wanted.models.get(model)
        return desired is not None and number in desired.deployment.versions

    async def apply(self, state: DesiredState, fetch: Fetch) -> tuple[ModelConvergence, ...]:
        """
        Converge on *state*; models that it no longer names are drained and closed.

        A newer call replaces a running call at once; both calls return when every model has reached the newest state.
        """
        models = {desired.deployment.model: desired for desired in state.models}
        wanted = self._wanted = _Wanted(fetch=fetch, models=models)
        for gone in self._aims.keys() - models.keys():
            self._aims.pop(gone).task.cancel()
            self._loads.abandon(gone)
        self._evicted = {name: one for name, one in self._evicted.items() if one.desired == models.get(name)}
        for hosted in [hosted for name, hosted in self.table.items() if name not in models]:
            self._drop(hosted.deployment.model)
        self.convergence = {
            name: _received(desired.deployment, self.convergence.get(name), unloaded=name in self._unloaded)
            for name, desired in wanted.models.items()
        }
        for desired in state.models:
            if desired.deployment.model not in self._evicted:
                self._aim(desired, fetch)
        await self._reached()
        if self._wanted is wanted:
            self.revision = state.revision
        return tuple(self.convergence.values())

    async def unload(self, model: ModelName) -> int | None:
        """
        Unload *model* without changing its desired state; :meth:`load` loads it again.

        Returns the decrease of the process's resident memory in bytes; None if it cannot be measured.
        """
        desired, fetch = self._desired(model)
        self._unloaded |= {model}
        self._evicted.pop(model, None)
        self._aim(desired, fetch)
        await self._reached(model)
        return self._freed.get(model)

    async def load(self, model: ModelName) -> ModelConvergence:
        """Load the deployed versions of *model* again; the result reports a version that failed."""
        desired, fetch = self._desired(model)
        self._unloaded -= {model}
        self._evicted.pop(model, None)
        if model in self.convergence:
            self.convergence[model] = replace(self.convergence[model], unloaded=False)
        self._aim(desired, fetch)
        await self._reached(model)
        line = self.convergence[model]
        return replace(line, error=_NO_ROOM) if model in self._evicted else line

    def use(self, hosted: LoadedDeployment) -> None:
        """Load a model again that was unloaded to make room, because a request needs it; the request does not wait."""
        model = hosted.deployment.model
        evicted = self._evicted.get(model)
        if evicted is None or self._wanted is None or self._context.steady() < evicted.again_at:
            return
        if model not in self._aims or self._aims[model].task.done():
            self._aim(evicted.desired, self._wanted.fetch)

    async def close(self) -> None:
        """Unload all versions, and wait until their requests in flight have ended."""
        for name, aim in self._aims.items():
            aim.task.cancel()
            self._loads.abandon(name)
        await asyncio.gather(*(aim.task for aim in self._aims.values()), return_exceptions=True)
        for hosted in list(self.table.values()):
            self._drop(hosted.deployment.model)
        await asyncio.gather(*self._retiring)

    def is_unloaded(self, model: ModelName) -> bool:
        """Tell whether *model* has no loaded version because of :meth:`unload`, or because of the memory budget."""
        return model in self._unloaded or model in self._evicted

    def no_room(self, model: ModelName) -> timedelta | None:
        """Give the time after which a request for *model* may find room for it; None if *model* does not need room."""
        evicted = self._evicted.get(model)
        if evicted is None:
            return None
        return timedelta(seconds=max(1.0, evicted.again_at - self._context.steady()))

    def _desired(self, model: ModelName) -> tuple[DesiredModel, Fetch]:
        if self._wanted is None or model not in self._wanted.models:
            raise ModelNotFound(f"No model {model!r} is deployed here.")
        return self._wanted.models[model], self._wanted.fetch

    def _aim(self, desired: DesiredModel, fetch: Fetch) -> None:
        """Start the task that loads *desired*; a running task for an older desired state ends."""
        model = desired.deployment.model
        unloaded = model in self._unloaded
        old = self._aims.get(model)
        if old is not None and not old.task.done():
            if old.desired == desired and old.unloaded == unloaded:
                return
            old.task.cancel()
        keep = () if unloaded else {(served.number, served.artifact_digest) for served in desired.versions}
        self._loads.abandon(model, keep=keep)
        task = asyncio.create_task(self._unload(desired) if unloaded else self._converge(desired, fetch))
        self._aims[model] = _Aim(desired=desired, unloaded=unloaded, task=task)

    async def _reached(self, model: ModelName | None = None) -> None:
        """Wait until *model*, or every model, has reached its newest desired state."""

        def aims() -> tuple[asyncio.Task[None], ...]:
            return tuple(aim.task for name, aim in self._aims.items() if model in {None, name})

        while running := [task for task in aims() if not task.done()]:
            await asyncio.wait(running)
        for task in aims():
            if not task.cancelled():
                task.result()

    async def _make_room(self, key: LoadKey, missing: int) -> None:
        """
        Unload idle models to free *missing* bytes for a load, and wait until their memory is free.

        Before that, wait until a version that drains has ended, at most half of ``policy.load_timeout``, which passes
        meanwhile; and unload versions of the same model that its newest deployment no longer names and that receive no
        traffic.

        Raises:
            NotReady: There is no room now.
        """
        if not self._retiring:
            self._release_unnamed(key.model)
        policy = self._context.policy
        if self._retiring:
            patience = policy.load_timeout.total_seconds() / 2
            if (await asyncio.wait(self._retiring, timeout=patience, return_when=asyncio.FIRST_COMPLETED))[0]:
                return  # the caller asks again
        now = self._context.steady()
        residents = [_resident(h, now) for h in self.table.values() if h.versions and self._may_evict(h, key.model)]
        decision = make_room(missing, residents, unused_for=policy.evict_unused_for)
        if isinstance(decision, NoRoom):
            wait = decision.retry_after
            message = f"Version {key.version} of model {key.model}: {_NO_ROOM}"
            raise _NoRoomNow(message, until=now + wait.total_seconds(), retry_after=wait)
        for hosted in map(self.table.get, decision.models):
            if hosted is None or not self._may_evict(hosted, key.model) or not hosted.idle:
                return  # the model is in use since the decision; the caller asks again
            model = hosted.deployment.model
            _log.info("model_evicted", model=model, room_for=key.model)
            self._evicted[model] = _Evicted(desired=self._desired(model)[0], again_at=now)
            await self._unload(self._evicted[model].desired)

    def _release_unnamed(self, model: ModelName) -> None:
        hosted, desired = self.table.get(model), None if self._wanted is None else self._wanted.models.get(model)
        if hosted is None or desired is None:
            return
        needed = {*desired.deployment.versions, *replace(hosted.deployment, keep=()).versions}
        versions = {number: version for number, version in hosted.versions.items() if number in needed}
        if len(versions) < len(hosted.versions):
            self._swap(LoadedDeployment(deployment=hosted.deployment, versions=versions))

    def _may_evict(self, hosted: LoadedDeployment, loading: ModelName) -> bool:
        """Whether *hosted* is another model than *loading*, and has reached its desired state."""
        model = hosted.deployment.model
        aim = self._aims.get(model)
        return model != loading and aim is not None and aim.task.done()

    async def _unload(self, desired: DesiredModel) -> None:
        deployment, model = desired.deployment, desired.deployment.model
        old = self.table.get(model)
        places = [] if old is None else [version.artifact.backend.place for version in old.versions.values()]
        before = resident_bytes()
        self._swap(LoadedDeployment(deployment=deployment, versions={}))
        self.convergence[model] = ModelConvergence(
            model=model,
            generation_desired=deployment.generation,
            generation_serving=0,
            version_serving=None,
            unloaded=True,
        )
        if retiring := [task for task, whose in self._retiring.items() if whose == model]:
            await asyncio.wait(retiring)  # cancelling this wait must not cancel them
        await asyncio.to_thread(return_free_memory)
        after = resident_bytes()
        freed = None if before is None or after is None else max(0, before - after)
        self._freed[model] = None if freed is None else freed + sum(map(_freed_by_end, places))

    async def _converge(self, desired: DesiredModel, fetch: Fetch) -> None:
        deployment, model = desired.deployment, desired.deployment.model
        versions, failures = await self._gather(desired, fetch)
        old = self.table.get(model)
        if failures.vital and failures.no_room_until is not None and (old is None or not old.versions):
            self._evicted[model] = _Evicted(desired=desired, again_at=failures.no_room_until)
            await self._unload(desired)
            return
        if failures.vital:
            self._evicted.pop(model, None)
            self._retire(model, _added(versions, self.table.get(model)))
        else:
            self._serve(desired, versions)
        before = self.convergence.get(model)
        line = _report(deployment, self.table.get(model), failures, before=before)
        self.convergence[model] = replace(line, failed_loads=self._failed_loads(line, before))

    def _failed_loads(self, line: ModelConvergence, before: ModelConvergence | None) -> int:
        """Give the number of consecutive failures of this kind; attempts in quick succession count as one."""
        now, model = self._context.steady(), line.model
        same = before is not None and before.error is not None and line.error is not None
        if before is None or not same or _blame(before) != _blame(line):
            self._failed_at[model] = now
            return 1
        if now - self._failed_at.get(model, now) < _REPEATED_S:
            return before.failed_loads
        self._failed_at[model] = now
        return before.failed_loads + 1

    def _serve(self, desired: DesiredModel, versions: Mapping[int, LoadedVersion]) -> None:
        now = self._context.clock()
        for number, version in versions.items():
            version.serve_as(desired.deployment.generation, now, desired.version(number))
        self._swap(LoadedDeployment(deployment=desired.deployment, versions=versions))

    async def _gather(self, desired: DesiredModel, fetch: Fetch) -> tuple[dict[int, LoadedVersion], _Failures]:
        """
        Give every version that the deployment names; load the versions that are not loaded yet, production first.

        While nothing serves, the production version serves as soon as it is loaded.
        """
        deployment, model = desired.deployment, desired.deployment.model
        versions: dict[int, LoadedVersion] = {}
        failures = _Failures()
        for number in deployment.versions:
            vital = number == deployment.production
            try:
                versions[number] = await self._version(desired, number, fetch)
            except MendelError as error:
                failures.note(number, error, vital=vital)
                if vital:
                    break
            except asyncio.CancelledError:
                self._retire(model, _added(versions, self.table.get(model)))
                raise
            hosted = self.table.get(model)
            if vital and len(deployment.versions) > 1 and (hosted is None or not hosted.serving):
                self._serve(desired, dict(versions))
                self.convergence[model] = replace(self.convergence[model], version_serving=number)
        return versions, failures

    async def _version(self, desired: DesiredModel, number: int, fetch: Fetch) -> LoadedVersion:
        old, served = self.table.get(desired.deployment.model), desired.version(number)
        there = None if old is None else old.versions.get(number)
        if there is not None and there.served.artifact_digest == served.artifact_digest:
            return there
        policy, image = self._context.policy, self._context.identity.image
        fixed = policy.environments == "fixed" or (image is not None and policy.model_python is not None)
        _check_swappable(old, served, self._context.identity, fixed=fixed)
        return await self._load(desired.deployment.model, served, fetch)

    async def _load(self, model: ModelName, served: ServedVersion, fetch: Fetch) -> LoadedVersion:
        context = self._context
        began = context.steady()
        version = LoadedVersion(model, served, await self._loads.load(model, served, fetch), context)
        context.counters.add(self._loaded)
        self._load_time.observe((context.steady() - began) * 1000)
        return version

    def _swap(self, hosted: LoadedDeployment) -> None:
        model = hosted.deployment.model
        old = self.table.get(model)
        if hosted.versions:
            self._evicted.pop(model, None)
        self.table = MappingProxyType({**self.table, model: hosted})
        if old is not None:
            self._retire(model, _added(old.versions, hosted))

    def _drop(self, model: ModelName) -> None:
        old = self.table[model]
        self.table = MappingProxyType({name: hosted for name, hosted in self.table.items() if name != model})
        self._retire(model, old.versions.values())

    def _retire(self, model: ModelName, versions: Iterable[LoadedVersion]) -> None:
        for version in versions:
            task = asyncio.create_task(version.retire(self._context.policy.drain_timeout))
            self._retiring[task] = model
            task.add_done_callback(self._retiring.pop)


def _resident(hosted: LoadedDeployment, now: float) -> Resident:
    versions = hosted.versions.values()
    unused = timedelta(seconds=max(0.0, now - max(version.used_at for version in versions)))
    return Resident(
        model=hosted.deployment.model,
        size_bytes=sum(version.artifact.claim.size_bytes for version in versions if version.artifact.claim is not None),
        unused=unused if hosted.idle else None,
    )


def _freed_by_end(place: BackendPlace) -> int:
    """Give the memory of a model's own process that has ended; 0 while other workers use it."""
    if place.memory_bytes is None or resident_bytes(place.pid) is not None:
        return 0
    return place.memory_bytes


def _added(versions: Mapping[int, LoadedVersion], to: LoadedDeployment | None) -> tuple[LoadedVersion, ...]:
    """Give the *versions* that the deployment *to* does not contain."""
    held = set() if to is None else set(map(id, to.versions.values()))
    return tuple(version for version in versions.values() if id(version) not in held)


def _check_swappable(
    old: LoadedDeployment | None, served: ServedVersion, server: ServerIdentity, *, fixed: bool
) -> None:
    """
    Raise NeedsNewImage when this server lacks the code or the environment of version *served*.

    Args:
        fixed: Whether the server may make no environments; a version that was trained with the packages of its lock
            then needs an image with that lock.
    """
    image, lock = server.image, served.lock_digest
    if served.carries_code:
        if fixed and served.locked and (lock is None or lock != (None if image is None else image.lock)):
            raise NeedsNewImage(
                f"Version {served.number} needs the packages of its lock; this server does not have them, and "
                "makes no environments (serving.environments: fixed).",
                release=served.release_tag,
                remedy=f"Deploy an image of {served.release_tag or 'its release'}.",
            )
        return
    built = None if image is None else image.tag
    if served.flavor == _OF_PROJECT and built is not None and served.release_tag not in {None, built}:
        raise NeedsNewImage(
            f"Version {served.number} belongs to release {served.release_tag}; the image of this server has release "
            f"{built}.",
            release=served.release_tag,
            remedy=f"Deploy an image of {served.release_tag}.",
        )
    loaded = () if old is None else tuple(old.versions.values())
    running = next((version for version in loaded if not version.served.carries_code), None)
    if running is None:
        if loaded and not server.hosts_code_of(served):
            raise NeedsNewImage(
                f"Version {served.number} belongs to release {served.release_tag}; this server hosts {server.release}.",
                release=served.release_tag,
                remedy=f"Start the server with the code of {served.release_tag}, or deploy its image.",
            )
        return
    before = (running.served.code_digest, running.served.lock_digest)
    if before != (served.code_digest, served.lock_digest):
        raise NeedsNewImage(
            f"Version {served.number} needs other code or dependencies than the running version {running.ref}.",
            release=served.release_tag,
            remedy=f"Deploy an image of {served.release_tag or 'its release'}.",
        )


def is_at_fault(error: MendelError) -> bool:
    """Whether *error* shows that the version itself cannot be loaded, not that memory, a disk or a network failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _MACHINE_FAULTS) or (isinstance(cause, OSError) and cause.errno in _MACHINE_ERRNOS):
            return False
        cause = cause.__cause__
    return isinstance(error, ModelError)


def _received(deployment: Deployment, old: ModelConvergence | None, *, unloaded: bool) -> ModelConvergence:
    """
    Give the state of a model when *deployment* arrives; a load failure of an earlier generation is dropped.

    Args:
        unloaded: Whether a client unloaded the model; a model that was unloaded to make room is loaded again.
    """
    if old is None:
        return ModelConvergence(
            model=deployment.model,
            generation_desired=deployment.generation,
            generation_serving=0,
            version_serving=None,
        )
    if old.generation_desired == deployment.generation:
        return old
    return replace(
        old,
        generation_desired=deployment.generation,
        failed_version=None,
        error=None,
        detail=None,
        difference_id="",
        version_at_fault=False,
        failed_loads=1,
        unloaded=unloaded,
    )


def _report(
    deployment: Deployment, hosted: LoadedDeployment | None, failures: _Failures, *, before: ModelConvergence | None
) -> ModelConvergence:
    serving = hosted is not None and hosted.serving and bool(hosted.deployment.routes)
    return ModelConvergence(
        model=deployment.model,
        generation_desired=deployment.generation,
        generation_serving=_generation(hosted, 0 if before is None else before.generation_serving),
        version_serving=hosted.deployment.production if serving and hosted is not None else None,
        failed_version=failures.version,
        error=failures.error,
        detail=failures.detail,
        difference_id=failures.difference_id,
        version_at_fault=failures.at_fault,
    )


def _generation(hosted: LoadedDeployment | None, before: int) -> int:
    """The newest generation of which every version that shall receive traffic was loaded."""
    if hosted is None:
        return 0
    return hosted.deployment.generation if hosted.complete else min(before, hosted.deployment.generation - 1)


def _blame(line: ModelConvergence) -> tuple[int | None, bool]:
    return line.failed_version, line.version_at_fault
