"""The pins of an image: those of the project's lock, or newly made ones if the project has no lock."""

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

_WITHOUT_LOCK = f"{LOCK_FILE} is missing, so a later build may use other wheels. Make the lock with: mendel lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """
    Base, wheels and runtime of an image.

    Attributes:
        lock: Digest of the project's lock; None without a lock, so that a rebuild may find other wheels.
        found: The origin of the runtime: the lock, or how Mendel is installed here.
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
    Read the pins of *source* from its lock, or make new ones.

    Raises:
        StaleLock: The lock does not match the project, or the installed version of Mendel would build an image with
            other bytes from the lock than the version that wrote the lock.
        Conflict: A release without a lock was made with another Mendel than the installed one, and *force* is off.
        BuildRefused: The project has no lock, and its requirements cannot be pinned.
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
        hints=(_WITHOUT_LOCK if lock is None else f"{LOCK_FILE} was not used: {_other_builder(lock)}.",),
    )


def _other_builder(lock: Lock) -> str:
    """Why this Mendel would build other bytes from *lock*; empty if it builds the same bytes."""
    if lock.builder != BUILDER_FORMAT:
        return (
            f"the lock was made for builder format {lock.builder}, but the installed Mendel has format {BUILDER_FORMAT}"
        )
    installed = compressor()
    return (
        ""
        if lock.compressor == installed
        else (f"the lock pins the compressor {lock.compressor}, but {installed} is installed")
    )


def _require_same_builder(lock: Lock) -> None:
    if why := _other_builder(lock):
        raise StaleLock(
            f"The installed Mendel cannot reproduce the image that {LOCK_FILE} pins: {why}.",
            remedy=(
                "Run 'mendel lock', install the Mendel and the deflate that made the lock, or ignore the "
                "lock with --force."
            ),
        )


def _require_same_tool(tagged: str, tag: str) -> None:
    tool = this_tool()
    if tagged != "dev" and (tool.commit is None or not tool.commit.startswith(tagged)):
        raise Conflict(
            (
                f"{tag} has no {LOCK_FILE} and was made with Mendel at commit {tagged}; the installed "
                f"Mendel is {tool.short}."
            ),
            remedy=f"Install Mendel at commit {tagged}, or build with the installed Mendel by giving --force.",
        )
