"""The loaded versions of every deployment, and how they converge on the desired state: load, warm up, swap, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from mendel.errors import MendelError, ModelError, ModelNotFound, NeedsNewImage, NotSwappable
from mendel.serving.entities import ImageIdentity
from mendel.serving.loaded_version import KernelContext, LoadedArtifact, LoadedVersion, footprint, load_artifact
from mendel.serving.metrics import LOAD_TIME, LOADED, SWAPS, Histogram, series
from mendel.serving.unregistered_version import is_registered
from mendel.values import Deployment, DesiredModel, DesiredState, Digest, ModelConvergence, ModelName, ServedVersion

Fetch = Callable[[Digest], Path]
_OF_PROJECT = "mendel"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedDeployment:
    """A deployment as this process serves it; replaced as a whole, never changed."""

    deployment: Deployment
    versions: Mapping[int, LoadedVersion]

    @property
    def registered(self) -> tuple[str, ...]:
        """The numbers of the loaded versions as doors list them: those that a registry knows."""
        return tuple(str(number) for number, version in sorted(self.versions.items()) if is_registered(version.served))

    @property
    def serving(self) -> bool:
        """Whether every version on a route is loaded and lives."""
        return all(route.version in self.versions for route in self.deployment.routes) and self.died is None

    @property
    def died(self) -> str | None:
        """Why a version on a route can answer no more; None while all of them live."""
        routed = (self.versions.get(route.version) for route in self.deployment.routes)
        return next((died for version in routed if version and (died := version.artifact.backend.died)), None)


@dataclass(slots=True)
class _Failures:
    """The first version of a model that could not be loaded, and whether the model can serve without it."""

    version: int | None = None
    error: str | None = None
    at_fault: bool = False
    vital: bool = False

    def note(self, version: int, error: MendelError, *, vital: bool) -> None:
        if self.version is None or (vital and not self.vital):
            self.version, self.error, self.vital = version, str(error), vital
            self.at_fault = _is_at_fault(error)


@dataclass(slots=True)
class _Wanted:
    """What was desired last, and how to fetch it."""

    fetch: Fetch
    models: dict[ModelName, DesiredModel] = field(default_factory=dict)


class LoadedDeployments:
    """
    The loaded versions of one process.

    ``table`` is one reference: whoever took it sees one state, before a swap or after.
    """

    def __init__(self, context: KernelContext) -> None:
        self._context = context
        self._applying = asyncio.Lock()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mendel-loader")
        self._retiring: set[asyncio.Task[None]] = set()
        self._unloaded: set[ModelName] = set()
        self._wanted: _Wanted | None = None
        self._expected: frozenset[str] | None = None
        self._loaded = context.counters.reserve(series(LOADED))
        self._load_time = Histogram(context.counters, LOAD_TIME)
        self.table: Mapping[str, LoadedDeployment] = MappingProxyType({})
        self.convergence: dict[ModelName, ModelConvergence] = {}
        self.revision: int | None = None

    def expect(self, models: Iterable[ModelName]) -> None:
        """Know the names of all deployed models before they can be applied."""
        self._expected = frozenset(models)

    def unloaded_models(self) -> frozenset[str] | None:
        """The deployed models of which nothing is loaded here, those on their way included; None: nobody has said."""
        if self._expected is None and self._wanted is None:
            return None
        wanted = frozenset[str]() if self._wanted is None else frozenset[str](self._wanted.models)
        return (wanted | (self._expected or frozenset())) - self.table.keys()

    def is_deployed(self, model: ModelName, number: int) -> bool:
        """Whether the version belongs to what is desired of *model*, loaded or not."""
        desired = None if self._wanted is None else self._wanted.models.get(model)
        return desired is not None and number in desired.deployment.versions

    async def apply(self, state: DesiredState, fetch: Fetch) -> tuple[ModelConvergence, ...]:
        """Converge on *state*; models it no longer names are drained and closed."""
        async with self._applying:
            self._wanted = _Wanted(fetch, {desired.deployment.model: desired for desired in state.models})
            for name in [name for name in self.table if name not in self._wanted.models]:
                self._drop(ModelName(name))
            for desired in state.models:
                self.convergence[desired.deployment.model] = await self._converge(desired, fetch)
            self.convergence = {name: self.convergence[name] for name in self._wanted.models}
            self.revision = state.revision
            return tuple(self.convergence.values())

    async def unload(self, model: ModelName) -> None:
        """Give the memory of *model* back; what is desired of it stays, and :meth:`load` brings it again."""
        async with self._applying:
            hosted = self._known(model)
            self._unloaded.add(model)
            self._swap(replace(hosted, versions={}))
            await self._settled()

    async def load(self, model: ModelName) -> None:
        """Bring back what is desired of *model*; raises nothing for a version that fails, which convergence reports."""
        async with self._applying:
            self._known(model)
            self._unloaded.discard(model)
            if self._wanted is not None:
                self.convergence[model] = await self._converge(self._wanted.models[model], self._wanted.fetch)

    async def close(self) -> None:
        """Retire everything and wait for it."""
        async with self._applying:
            for name in list(self.table):
                self._drop(ModelName(name))
            await self._settled()
            self._loader.shutdown(wait=False)

    def is_unloaded(self, model: ModelName) -> bool:
        """Whether it was unloaded on purpose."""
        return model in self._unloaded

    def _known(self, model: ModelName) -> LoadedDeployment:
        if model not in self.table:
            raise ModelNotFound(f"No model {model!r} is deployed here.")
        return self.table[model]

    async def _converge(self, desired: DesiredModel, fetch: Fetch) -> ModelConvergence:
        deployment = desired.deployment
        old = self.table.get(deployment.model)
        if deployment.model in self._unloaded:
            self._swap(LoadedDeployment(deployment=deployment, versions={}))
            return _report(deployment, self.table[deployment.model], _Failures())
        versions, failures = await self._gather(desired, old, fetch)
        if failures.vital:
            before = {} if old is None else old.versions
            self._retire(version for number, version in versions.items() if version is not before.get(number))
            return _report(deployment, old, failures)
        hosted = LoadedDeployment(deployment=deployment, versions=versions)
        now = self._context.clock()
        for number, version in versions.items():
            version.serve_as(deployment.generation, now, desired.version(number))
        self._swap(hosted)
        return _report(deployment, hosted, failures)

    async def _gather(
        self, desired: DesiredModel, old: LoadedDeployment | None, fetch: Fetch
    ) -> tuple[dict[int, LoadedVersion], _Failures]:
        """Every version the deployment names: the ones there are, and the others loaded beside them."""
        versions: dict[int, LoadedVersion] = {}
        failures = _Failures()
        routed = {route.version for route in desired.deployment.routes}
        for number in desired.deployment.versions:
            there = None if old is None else old.versions.get(number)
            try:
                served = desired.version(number)
                if there is not None and there.served.artifact_digest == served.artifact_digest:
                    versions[number] = there
                else:
                    _check_swappable(old, served, self._context.identity.image)
                    versions[number] = await self._load(desired.deployment.model, served, fetch)
            except MendelError as error:
                failures.note(number, error, vital=number in routed)
                if failures.vital:
                    break
        return versions, failures

    async def _load(self, model: ModelName, served: ServedVersion, fetch: Fetch) -> LoadedVersion:
        context, loop = self._context, asyncio.get_running_loop()
        budget, used = context.policy.memory_budget_bytes, self._used_bytes()
        began = context.steady()

        def load() -> LoadedArtifact:
            directory = fetch(served.artifact_digest)
            if budget is not None and used + (size := footprint(directory)) > budget:
                raise NotSwappable(
                    f"Version {served.number} of {model} has {size} bytes beside {used}; the budget is {budget}.",
                    remedy="Raise serving.memory_budget_bytes.",
                )
            return load_artifact(directory, served, context)

        version = LoadedVersion(model, served, await loop.run_in_executor(self._loader, load), context)
        context.counters.add(self._loaded)
        self._load_time.observe((context.steady() - began) * 1000)
        return version

    def _used_bytes(self) -> int:
        return sum(v.artifact.footprint_bytes for hosted in self.table.values() for v in hosted.versions.values())

    def _swap(self, hosted: LoadedDeployment) -> None:
        model = hosted.deployment.model
        old = self.table.get(model)
        self.table = MappingProxyType({**self.table, model: hosted})
        if old is not None:
            if old.deployment.production != hosted.deployment.production:
                self._context.counters.add(self._context.counters.reserve(series(SWAPS, model=str.__str__(model))))
            kept = set(map(id, hosted.versions.values()))
            self._retire(version for version in old.versions.values() if id(version) not in kept)

    def _drop(self, model: ModelName) -> None:
        old = self.table[model]
        self.table = MappingProxyType({name: hosted for name, hosted in self.table.items() if name != model})
        self._retire(old.versions.values())

    def _retire(self, versions: Iterable[LoadedVersion]) -> None:
        for version in versions:
            task = asyncio.create_task(version.retire(self._context.policy.drain_timeout))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _settled(self) -> None:
        await asyncio.gather(*self._retiring)


def _check_swappable(old: LoadedDeployment | None, served: ServedVersion, image: ImageIdentity | None) -> None:
    """A server hosts one code: that of its image, where it runs in one, and else that of what it serves already."""
    built = None if image is None else image.tag
    if served.flavor == _OF_PROJECT and built is not None and served.release_tag not in {None, built}:
        raise NeedsNewImage(
            f"Version {served.number} belongs to {served.release_tag}; this image is {built}.",
            release=served.release_tag,
            remedy=f"Deploy an image of {served.release_tag}.",
        )
    running = None if old is None else next(iter(old.versions.values()), None)
    if running is None:
        return
    before = (running.served.code_digest, running.served.lock_digest)
    if before != (served.code_digest, served.lock_digest):
        raise NeedsNewImage(
            f"Version {served.number} belongs to other code or dependencies than the running {running.ref}.",
            release=served.release_tag,
            remedy=f"Deploy an image of {served.release_tag or 'its release'}.",
        )


def _is_at_fault(error: MendelError) -> bool:
    """Whether *error* shows that the version itself cannot be loaded, not that memory, a disk or a store failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | OSError):
            return False
        cause = cause.__cause__
    return isinstance(error, ModelError)


def _report(deployment: Deployment, hosted: LoadedDeployment | None, failures: _Failures) -> ModelConvergence:
    serving = hosted is not None and hosted.serving and bool(hosted.deployment.routes)
    return ModelConvergence(
        model=deployment.model,
        generation_desired=deployment.generation,
        generation_serving=0 if hosted is None else hosted.deployment.generation,
        version_serving=hosted.deployment.production if serving and hosted is not None else None,
        failed_version=failures.version,
        error=failures.error,
        version_at_fault=failures.at_fault,
    )
