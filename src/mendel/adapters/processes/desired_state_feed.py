"""Fetch the desired state from the hub, with its artefacts, and deliver both to the workers."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from mendel.adapters.processes.hub_client import DesiredSource
from mendel.errors import MendelError, NeedsNewImage
from mendel.resilience import RetryPolicy, TryAgain, decide_retry
from mendel.serving import Environments
from mendel.values import DesiredModel, DesiredState, Digest, ModelName, from_json, to_json
from mendel.values.atomic_files import write_atomically

_log = structlog.get_logger("mendel.feed")
_RETRY: Final = RetryPolicy(attempts=sys.maxsize, base=timedelta(milliseconds=200), cap=timedelta(seconds=5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    The desired state and how much of it can be served.

    Attributes:
        newest: The newest desired state of the hub.
        servable: The same state, but a model with missing artefacts keeps its former deployment.
        missing: The reason why an artefact of *newest* is missing, by digest.
        current: False until the hub has answered since the start; *newest* is then the state of the former run.
    """

    newest: DesiredState
    servable: DesiredState
    missing: Mapping[Digest, str]
    current: bool = True


def servable(newest: DesiredState, former: DesiredState, present: Collection[Digest]) -> DesiredState:
    """
    Give the part of *newest* that can be served with the artefacts *present*.

    A model with a missing artefact keeps its deployment in *former*, or is omitted without one. Versions that are kept
    only for a rollback are not required. If *former* does not serve the production version, this version serves alone
    until the canary and the other versions are present.
    """
    before = {model.deployment.model: model for model in former.models}
    models = []
    for model in newest.models:
        kept = _without_missing_spares(model, present)
        if all(version.artifact_digest in present for version in kept.versions):
            models.append(kept)
            continue
        old, alone = before.get(model.deployment.model), _production_alone(kept)
        new = old is None or old.deployment.production != model.deployment.production
        if new and alone.versions and alone.versions[0].artifact_digest in present:
            models.append(alone)
        elif old is not None:
            models.append(old)
    return replace(newest, models=tuple(models))


def _without_missing_spares(model: DesiredModel, present: Collection[Digest]) -> DesiredModel:
    here = {version.number for version in model.versions if version.artifact_digest in present}
    deployment = replace(model.deployment, keep=tuple(v for v in model.deployment.keep if v in here))
    versions = tuple(version for version in model.versions if version.number in deployment.versions)
    return DesiredModel(deployment=deployment, versions=versions)


def _production_alone(model: DesiredModel) -> DesiredModel:
    routes = tuple(replace(route, share=1.0) for route in model.deployment.routes[:1])
    deployment = replace(model.deployment, routes=routes, keep=(), shadow=None, fallback=None)
    versions = tuple(version for version in model.versions if version.number in deployment.versions)
    return DesiredModel(deployment=deployment, versions=versions)


def digests(*states: DesiredState) -> tuple[Digest, ...]:
    """Give the digest of every artefact in the states once, those of production versions first."""
    ranked = [
        (model.deployment.versions.index(version.number), version.artifact_digest)
        for state in states
        for model in state.models
        for version in model.versions
        if version.number in model.deployment.versions
    ]
    return tuple(dict.fromkeys(digest for _, digest in sorted(ranked)))


class StateFiles:
    """
    A server's stored states, for starting without the hub, and its artefacts.

    Args:
        local: The artefact directory of a server without a hub. Such a server serves artefacts in place, deletes none,
            and neither reads nor writes stored states. None for a server with a hub.
    """

    def __init__(self, directory: Path, *, local: Path | None = None) -> None:
        self._directory = directory
        self._remembers = local is None
        self.artifacts = local or directory / "artifacts"
        self.artifacts.mkdir(parents=True, exist_ok=True)

    def desired(self) -> DesiredState | None:
        """Read the last state that the hub sent; None before the first state."""
        return self._read("desired.json")

    def keep_desired(self, state: DesiredState) -> None:
        self._keep("desired.json", state)

    def settled(self) -> DesiredState | None:
        """Read the last state that all workers served; None if no state was served by all workers yet."""
        return self._read("settled.json")

    def keep_settled(self, state: DesiredState) -> None:
        self._keep("settled.json", state)

    def present(self) -> frozenset[Digest]:
        """Give the digests of the complete artefacts on disk."""
        return frozenset(
            Digest(f"sha256:{path.name}") for path in self.artifacts.iterdir() if not path.name.startswith(".")
        )

    def tidy(self, *wanted: DesiredState) -> None:
        """Delete every artefact that none of the states contains."""
        for digest in self.present() - set(digests(*wanted)) if self._remembers else ():
            shutil.rmtree(self.artifacts / digest.hex)

    def sweep(self) -> None:
        """Delete the files of interrupted downloads."""
        for draft in self.artifacts.glob(".*"):
            shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink()

    def _read(self, name: str) -> DesiredState | None:
        return _read(self._directory / name) if self._remembers else None

    def _keep(self, name: str, state: DesiredState) -> None:
        if self._remembers:
            write_atomically(self._directory / name, to_json(state))


def _read(path: Path) -> DesiredState | None:
    if not path.exists():
        return None
    try:
        return from_json(path.read_bytes(), DesiredState)
    except MendelError as error:
        _log.warning("state_file_unreadable", path=str(path), error=str(error))
        return None


class Feed:
    """
    Long-polls the hub for the desired state, fetches artefacts, and delivers the result.

    Only the newest state matters, so a lost response is harmless; after a failure the feed polls again. Artefacts are
    fetched, and their environments made, in parallel to polling, once for all workers, so that a rollback never waits
    for a download.

    Args:
        environments: Makes the Python environments of artefacts.
        deliver: Called on the event loop with every new :class:`Delivery`.
        wait: The maximum duration of one poll.
    """

    def __init__(
        self,
        source: DesiredSource,
        files: StateFiles,
        *,
        environments: Environments,
        deliver: Callable[[Delivery], None],
        rng: random.Random,
        wait: timedelta = timedelta(seconds=20),
    ) -> None:
        self._source = source
        self._files = files
        self._environments = environments
        self._deliver = deliver
        self._rng = rng
        self._wait = wait
        self._newest: DesiredState | None = None
        self._servable = files.settled() or DesiredState(revision=-1, key_hashes={})
        self._fetches: dict[Digest, asyncio.Task[None]] = {}
        self._errors: dict[Digest, str] = {}
        self._drafts = count()
        self._current = False

    async def run(self) -> None:
        """Deliver the stored state, then every new state, until the task is cancelled."""
        self._files.sweep()
        async with asyncio.TaskGroup() as fetches:
            remembered = self._files.desired()
            if remembered is not None:
                self._take(remembered, fetches)
            await self._poll(fetches)

    async def _poll(self, fetches: asyncio.TaskGroup) -> None:
        after, failures = -1, 0
        while True:
            try:
                state = await self._source.desired(after=after, wait=self._wait)
            except MendelError as error:
                after, failures = -1, failures + 1
                if failures == 1:
                    _log.warning("desired_state_unreachable", error=str(error))
                await self._pause(failures)
                continue
            if failures:
                _log.info("desired_state_reachable", after_failures=failures)
                failures = 0
            if state is not None:
                after = state.revision
                self._current = True
                self._take(state, fetches)

    def _take(self, state: DesiredState, fetches: asyncio.TaskGroup) -> None:
        if state != self._newest:
            self._files.keep_desired(state)
        self._newest = state
        ready = self._ready(state)
        missing = [digest for digest in digests(state) if digest not in ready]
        for digest in self._fetches.keys() - set(missing):
            self._fetches.pop(digest).cancel()
            self._errors.pop(digest, None)
        self._offer()
        for digest in missing:
            if digest not in self._fetches:
                self._fetches[digest] = fetches.create_task(self._fetch(digest))

    async def _fetch(self, digest: Digest) -> None:
        for failures in count(1):
            try:
                await self._fetch_once(digest)
            except Exception as error:  # noqa: BLE001 - no artefact and no wheel may end the server
                told = str(error) if isinstance(error, MendelError | OSError) else type(error).__name__
                _log.warning("artifact_not_ready", digest=digest, failures=failures, error=told)
                self._errors[digest] = told
                self._offer()
                await self._pause(failures)
            else:
                self._errors.pop(digest, None)
                self._fetches.pop(digest, None)
                self._offer()
                return

    def _ready(self, state: DesiredState) -> frozenset[Digest]:
        """Give the digests of the artefacts of *state* that are on disk together with their environments."""
        present = self._files.present()
        return frozenset(digest for digest in digests(state) if digest in present and self._has_environment(digest))

    def _has_environment(self, digest: Digest) -> bool:
        try:
            self._environments.python_of(self._files.artifacts / digest.hex)
        except NeedsNewImage:
            return False
        except Exception:  # noqa: BLE001 - the artefact cannot be read: its load reports this
            return True
        return True

    async def _fetch_once(self, digest: Digest) -> None:
        if digest not in self._files.present():
            await self._download(digest)
        await in_daemon_thread(lambda: self._environments.make(self._files.artifacts / digest.hex))

    async def _download(self, digest: Digest) -> None:
        draft = self._files.artifacts / f".{digest.hex}.{next(self._drafts)}"
        try:
            await self._source.fetch(digest, draft)
            draft.rename(self._files.artifacts / digest.hex)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _offer(self) -> None:
        if self._newest is None:
            return
        self._servable = servable(self._newest, self._servable, self._ready(self._newest))
        errors = dict(self._errors)
        self._deliver(Delivery(newest=self._newest, servable=self._servable, missing=errors, current=self._current))

    async def _pause(self, failures: int) -> None:
        decision = decide_retry(_RETRY, failures, self._rng)
        if isinstance(decision, TryAgain):
            await asyncio.sleep(decision.after.total_seconds())


async def in_daemon_thread(work: Callable[[], None]) -> None:
    """Run *work* in a thread that does not delay the end of the process; cancelling leaves the thread running."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        failed: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised where the work is awaited
            failed = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(finish, failed)

    threading.Thread(target=run, daemon=True).start()
    await done


def models_of(state: DesiredState) -> dict[ModelName, DesiredModel]:
    """Give the models of *state* by name."""
    return {model.deployment.model: model for model in state.models}
