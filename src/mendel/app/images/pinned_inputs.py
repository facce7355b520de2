"""What an image is pinned to: the project's lock, or one made for the moment where it has none."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.adapters.oci.layers.compression import compressor
from mendel.adapters.pip import CachedWheels
from mendel.app.images.build_source import Source
from mendel.app.images.lockfile import check_fresh, locking_for, read_lock
from mendel.app.images.workspace import ImageWorkspace
from mendel.app.project.installed_tool import this_tool
from mendel.errors import Conflict, StaleLock
from mendel.images import BUILDER_FORMAT, LOCK_FILE, Environment, Lock, OnProgress, Platform, RuntimePin
from mendel.values import Digest

_WITHOUT_LOCK = f"There is no {LOCK_FILE}: a later build may find other wheels. Make one with: mendel lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """
    Base, wheels and runtime of an image.

    Attributes:
        lock: Digest of the project's own lock; None where there is none, so that a rebuild may find other wheels.
        found: How the runtime was found.
    """

    environment: Environment
    runtime: RuntimePin
    wheels: CachedWheels
    lock: Digest | None
    found: str
    hints: tuple[str, ...] = ()


def environment_for(
    source: Source, bench: ImageWorkspace, platform: Platform, *, force: bool, on_progress: OnProgress
) -> Pinned:
    """
    The pins of the tree that is built.

    Raises:
        StaleLock: The lock is not what the project asks for now, or this Mendel would make other bytes of it.
        Conflict: A release without a lock was made with another tool than the installed one, and *force* is off.
        BuildRefused: Without a lock: the requirements cannot be pinned.
    """
    wheels = bench.wheels(source.project.root)
    lock = read_lock(source.project.root)
    name = source.classifier.name
    if lock is not None and not (force and _other_builder(lock)):
        _require_same_builder(lock)
        return Pinned(
            environment=check_fresh(lock, source.project, name, platform),
            runtime=lock.runtime,
            wheels=wheels,
            lock=lock.digest,
            found="lock",
        )
    if source.release is not None and lock is None and not force:
        _require_same_tool(source.release.tag.tool, str(source.release.tag))
    locking = locking_for(wheels, bench.bases, on_progress=on_progress)
    made = locking.make_lock(source.project, platforms=(platform,), classifiers=(name,), former=lock)
    return Pinned(
        environment=made.environment(name, platform),
        runtime=made.runtime,
        wheels=wheels,
        lock=None,
        found=made.runtime.how,
        hints=(_WITHOUT_LOCK if lock is None else f"Built apart from {LOCK_FILE}: {_other_builder(lock)}.",),
    )


def _other_builder(lock: Lock) -> str:
    """Why this Mendel would make other bytes of *lock* than the one that made it; empty where it would not."""
    if lock.builder != BUILDER_FORMAT:
        return f"it was made for builder format {lock.builder}, and this is {BUILDER_FORMAT}"
    installed = compressor()
    return "" if lock.compressor == installed else f"it pins the compressor {lock.compressor}, and here is {installed}"


def _require_same_builder(lock: Lock) -> None:
    if why := _other_builder(lock):
        raise StaleLock(
            f"{LOCK_FILE} would give other bytes here: {why}.",
            remedy="Install the Mendel and deflate that made it, lock again, or build apart from it: --force",
        )


def _require_same_tool(tagged: str, tag: str) -> None:
    tool = this_tool()
    if tagged != "dev" and (tool.commit is None or not tool.commit.startswith(tagged)):
        raise Conflict(
            f"{tag} was made with the tool at {tagged}, has no {LOCK_FILE}, and the installed tool is {tool.short}.",
            remedy="Install that tool, or build with the installed runtime, labelled so: --force",
        )
