"""Finds wheels in a project's directory, then in a cache by content, then in the index through pip."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mendel.adapters.pip.pip_program import Finished, Pip, requirement_file
from mendel.errors import DigestMismatch, StoreUnavailable, WheelNotFound
from mendel.images import BasePin, OnProgress, Platform, TaskProgress, WheelPin, Wheels, ignore_progress
from mendel.values.directory_trees import file_digest

_UNFINISHED = ".fetching-"
_MISSING = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([A-Za-z0-9._-]+)==")
_DIFFERS = "THESE PACKAGES DO NOT MATCH THE HASHES"


class CachedWheels(Wheels):
    """
    Implements :class:`mendel.images.Wheels` with a cache directory and pip.

    The cache contains ``<sha256 in hex>/<file name>``; a file gets that name only after its digest was checked.

    Args:
        cache: The directory of the cache; made when the first wheel is stored.
        project: The project's directory of committed wheels, which is only read; None if it has none.
        pip: Fetches missing wheels.
    """

    def __init__(self, cache: Path, *, project: Path | None = None, pip: Pip | None = None) -> None:
        self._cache = cache
        self._project = project
        self._pip = Pip() if pip is None else pip

    def path(self, pin: WheelPin) -> Path:
        """Looks in the project's directory first, then in the cache."""
        found = self._at_hand(pin)
        if found is None:
            raise _not_found(pin, "the wheel is neither in mlserver.wheels/ nor in the cache")
        if file_digest(found) != pin.sha256:
            raise DigestMismatch(
                f"The wheel {found} does not have the content that mlserver.lock pins ({pin.sha256}).",
                remedy="Delete this file and try again, or pin new wheels with: mendel lock --upgrade",
            )
        return found

    def fetch(
        self,
        pins: Sequence[WheelPin],
        *,
        base: BasePin,
        platform: Platform,
        on_progress: OnProgress = ignore_progress,
    ) -> None:
        """
        Fetches all missing wheels in one run of pip; of cached wheels only the size is checked here, the digest at use.
        """
        missing = [pin for pin in dict.fromkeys(pins) if not self._whole(pin)]
        if not missing:
            return
        with self.unfinished() as directory:
            lines = [f"{pin.name}=={pin.version} --hash={pin.sha256}" for pin in missing]
            asked = requirement_file(directory, "wheels.txt", lines)
            into = directory / "wheels"
            finished = self._pip.run(
                *("download", "--no-deps", "--require-hashes", "--dest", str(into), "--requirement", asked),
                base=base,
                platform=platform,
                on_line=_Follower(missing, on_progress).line,
            )
            if finished.status:
                raise _not_fetched(missing, finished)
            for pin in missing:
                self._keep_fetched(into, pin)

    def keep(self, file: Path, pin: WheelPin) -> Path:
        """
        Move the wheel *file* into the cache; a wheel that the cache already has is left alone.

        Raises:
            DigestMismatch: The content is not the pinned content.
        """
        target = self._cached(pin)
        if target.is_file() and file_digest(target) == pin.sha256:
            return target
        if file_digest(file) != pin.sha256:
            raise DigestMismatch(
                f"The fetched wheel {pin.filename} does not have the content that mlserver.lock pins ({pin.sha256}).",
                remedy="Run: mendel lock --upgrade",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        return target

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """
        A directory on the cache's disk for unfinished downloads; it is removed when the context ends.

        The next call removes the directory of a killed process.

        Raises:
            StoreUnavailable: The cache directory cannot be made.
        """
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"Cannot create the cache in {self._cache}: {error.strerror or error}.",
                remedy="Set MENDEL_CACHE to a directory that you may write to.",
            ) from error
        for left in self._cache.glob(f"{_UNFINISHED}*"):
            _remove_if_left(left)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self._cache) as name, _locked(Path(name)):
            yield Path(name)

    def _keep_fetched(self, into: Path, pin: WheelPin) -> None:
        file = into / pin.filename
        if not file.is_file():  # the content may be stored under another file name: compare digests
            file = next((other for other in sorted(into.iterdir()) if file_digest(other) == pin.sha256), file)
        if not file.is_file():
            raise _not_found(pin, "the package index delivered another file")
        self.keep(file, pin)

    def _at_hand(self, pin: WheelPin) -> Path | None:
        places = [] if self._project is None else [self._project / pin.filename]
        return next((path for path in (*places, self._cached(pin)) if path.is_file()), None)

    def _whole(self, pin: WheelPin) -> bool:
        found = self._at_hand(pin)
        if found is None or pin.size_bytes:
            return found is not None and found.stat().st_size == pin.size_bytes
        return file_digest(found) == pin.sha256  # the lockfile has no size for this wheel

    def _cached(self, pin: WheelPin) -> Path:
        return self._cache / pin.sha256.hex / pin.filename


class _Follower:
    """Turns the output lines of pip into progress reports."""

    def __init__(self, missing: Sequence[WheelPin], on_progress: OnProgress) -> None:
        self._sizes = {pin.filename: pin.size_bytes for pin in missing}
        self._total = sum(self._sizes.values())
        self._on_progress = on_progress
        self._done = 0
        on_progress(TaskProgress(doing=f"Fetching {len(missing)} wheels", total=self._total))

    def line(self, line: str) -> None:
        """Report progress for one output line of pip."""
        if not line.startswith("Saved "):
            return
        name = Path(line.removeprefix("Saved ").strip()).name
        self._done += self._sizes.get(name, 0)
        self._on_progress(TaskProgress(doing=f"Fetching: {name}", done=self._done, total=self._total))


def _not_fetched(missing: Sequence[WheelPin], finished: Finished) -> Exception:
    names = {found[1].lower().replace("_", "-") for line in finished.lines if (found := _MISSING.search(line))}
    pin = next((pin for pin in missing if pin.name in names), missing[0])
    if any(_DIFFERS in line for line in finished.lines):
        return DigestMismatch(
            f"The package index has {_different(finished, missing)} with content that differs from mlserver.lock.",
            remedy="Find out why the content changed, or accept the new content with: mendel lock --upgrade",
        )
    if finished.offline:
        return _not_found(pin, "no package index answered")
    if names:
        return _not_found(pin, "no package index has this wheel any more")
    return finished.failure(f"fetch {len(missing)} wheels")


def _different(finished: Finished, missing: Sequence[WheelPin]) -> str:
    after = finished.tail[finished.tail.find(_DIFFERS) :]
    named = [f"{pin.name} {pin.version}" for pin in missing if f"{pin.name}=={pin.version}" in after]
    return " and ".join(named) or "a wheel"


def _not_found(pin: WheelPin, why: str) -> WheelNotFound:
    return WheelNotFound(
        f"The wheel {pin.filename} ({pin.sha256}) was not found: {why}.",
        remedy=(
            "Run 'mendel lock --vendor' on a machine with the wheel and commit mlserver.wheels/, or run: "
            "mendel lock --upgrade"
        ),
    )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_left(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:  # its owner finished in the meantime
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:  # its owner is still running
        return
    finally:
        os.close(descriptor)
