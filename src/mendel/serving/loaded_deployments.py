"""Load and unload model versions until they match the desired state that the hub sent."""

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
    """A deployment and its loaded versions by number; immutable, so that a request sees one consistent state."""

    deployment: Deployment
    versions: Mapping[int, LoadedVersion]

    @property
    def registered(self) -> tuple[str, ...]:
        """The numbers of the loaded versions, as text, without a version that is not registered."""
        return tuple(str(number) for number, version in sorted(self.versions.items()) if is_registered(version.served))

    @property
    def serving(self) -> bool:
        """True when every version that receives traffic is loaded and its backend runs."""
        return all(route.version in self.versions for route in self.deployment.routes) and self.died is None

    @property
    def died(self) -> str | None:
        """Why the backend of a version that receives traffic stopped; None while all these backends run."""
        routed = (self.versions.get(route.version) for route in self.deployment.routes)
        return next((died for version in routed if version and (died := version.artifact.backend.died)), None)


@dataclass(slots=True)
class _Failures:
    """
    The load failure of a model that is reported.

    ``vital`` is True when the failed version should receive traffic, so that the old versions must keep serving.
    """

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
    """The models of the last desired state, and the function that gives the directory of an artefact."""

    fetch: Fetch
    models: dict[ModelName, DesiredModel] = field(default_factory=dict)


class LoadedDeployments:
    """
    The loaded versions of one process.

    ``table`` maps model names to deployments. Each change replaces the whole mapping, so a reader that keeps a
    reference to the mapping sees one consistent state.
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
        """Set the names of all deployed models before :meth:`apply` loads them."""
        self._expected = frozenset(models)

    def unloaded_models(self) -> frozenset[str] | None:
        """Give the names of the deployed models without a loaded version; None when no desired state is known yet."""
        if self._expected is None and self._wanted is None:
            return None
        wanted = frozenset[str]() if self._wanted is None else frozenset[str](self._wanted.models)
        return (wanted | (self._expected or frozenset())) - self.table.keys()

    def is_deployed(self, model: ModelName, number: int) -> bool:
        """Tell whether the desired state of *model* contains version *number*, loaded or not."""
        desired = None if self._wanted is None else self._wanted.models.get(model)
        return desired is not None and number in desired.deployment.versions

    async def apply(self, state: DesiredState, fetch: Fetch) -> tuple[ModelConvergence, ...]:
        """Load the versions that *state* names; finish and unload models that *state* does not name."""
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
        """Unload all versions of *model* and keep the desired state, so that :meth:`load` can load them again."""
        async with self._applying:
            hosted = self._known(model)
            self._unloaded.add(model)
            self._swap(replace(hosted, versions={}))
            await self._settled()

    async def load(self, model: ModelName) -> None:
        """Load the desired versions of *model* again; ``convergence`` reports a version that cannot be loaded."""
        async with self._applying:
            self._known(model)
            self._unloaded.discard(model)
            if self._wanted is not None:
                self.convergence[model] = await self._converge(self._wanted.models[model], self._wanted.fetch)

    async def close(self) -> None:
        """Unload all versions and wait for the end of their requests in flight."""
        async with self._applying:
            for name in list(self.table):
                self._drop(ModelName(name))
            await self._settled()
            self._loader.shutdown(wait=False)

    def is_unloaded(self, model: ModelName) -> bool:
        """Tell whether :meth:`unload` unloaded *model*."""
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
        """Give every version that the deployment names; load the versions that are not loaded yet."""
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
                    f"Version {served.number} of model {model} has {size} bytes, the loaded versions have {used}, and "
                    f"serving.memory_budget_bytes is {budget}.",
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
    """Raise NeedsNewImage when version *served* needs other code or dependencies than this server runs."""
    built = None if image is None else image.tag
    if served.flavor == _OF_PROJECT and built is not None and served.release_tag not in {None, built}:
        raise NeedsNewImage(
            f"Version {served.number} belongs to release {served.release_tag}; the image of this server has release "
            f"{built}.",
            release=served.release_tag,
            remedy=f"Deploy an image of {served.release_tag}.",
        )
    running = None if old is None else next(iter(old.versions.values()), None)
    if running is None:
        return
    before = (running.served.code_digest, running.served.lock_digest)
    if before != (served.code_digest, served.lock_digest):
        raise NeedsNewImage(
            f"Version {served.number} needs other code or dependencies than the running version {running.ref}.",
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
