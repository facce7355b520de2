"""Wheels and a resolver over a package index in memory; the cache is a directory, since wheels are files."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from mendel.errors import BuildRefused, DigestMismatch, InvalidValue, ProgramFailed, WheelNotFound
from mendel.images import (
    BasePin,
    OnProgress,
    Platform,
    Resolver,
    TaskProgress,
    WheelPin,
    Wheels,
    ignore_progress,
)
from mendel.images.requirements import OTHER_ENGINES, Hashes, refused_by_hashes, requirement_name
from mendel.images.wheel_targets import marker_environment, platform_tags
from mendel.values import Digest
from mendel.values.atomic_files import write_atomically
from mendel.values.directory_trees import file_digest


@dataclass(kw_only=True)
class MemoryIndex:
    """
    The content of a package index.

    Attributes:
        reachable: False while the machine is offline.
    """

    reachable: bool = True
    _wheels: dict[str, bytes] = field(default_factory=dict)
    _sources: set[str] = field(default_factory=set)

    def add(self, filename: str, content: bytes) -> WheelPin:
        """Add a wheel to the index, replacing a wheel of the same file name; gives the pin."""
        name, version, _, _ = parse_wheel_filename(filename)
        self._wheels[filename] = content
        return WheelPin(
            name=name,
            version=str(version),
            filename=filename,
            sha256=Digest(f"sha256:{hashlib.sha256(content).hexdigest()}"),
            size_bytes=len(content),
        )

    def add_sources(self, name: str) -> None:
        """Add a distribution that has only sources and no wheel."""
        self._sources.add(canonicalize_name(name))

    def remove(self, filename: str) -> None:
        """Remove a wheel from the index."""
        self._wheels.pop(filename, None)

    def get(self, filename: str) -> bytes | None:
        """The content of a wheel; None if the index has no wheel of that name."""
        return self._wheels.get(filename)

    def knows(self, name: str) -> bool:
        """Whether the index has a wheel (for any platform) or sources of a distribution."""
        normal = canonicalize_name(name)
        return normal in self._sources or any(parse_wheel_filename(file)[0] == normal for file in self._wheels)

    def candidates(self, name: NormalizedName, tags: Sequence[Tag]) -> list[_Candidate]:
        """The wheels of a distribution that run with *tags*, newest first; each version by its best-tagged wheel."""
        ranks = {tag: rank for rank, tag in enumerate(tags)}
        best: dict[Version, tuple[int, str]] = {}
        for filename in self._wheels:
            found, version, _, own = parse_wheel_filename(filename)
            rank = min((ranks[tag] for tag in own if tag in ranks), default=None)
            if found == name and rank is not None and (version not in best or (rank, filename) < best[version]):
                best[version] = (rank, filename)
        return [
            _Candidate(version, self.add(filename, self._wheels[filename]), _requires(self._wheels[filename]))
            for version, (_, filename) in sorted(best.items(), reverse=True)
        ]


@dataclass(frozen=True, slots=True)
class _Candidate:
    version: Version
    pin: WheelPin
    requires: tuple[Requirement, ...]


class MemoryWheels(Wheels):
    """
    Implements :class:`mendel.images.Wheels`: fetches from an index in memory into a directory.

    Args:
        cache: The directory of fetched wheels: ``<sha256 in hex>/<file name>``.
        project: The project's directory of committed wheels; None if it has none.
    """

    def __init__(self, index: MemoryIndex, cache: Path, *, project: Path | None = None) -> None:
        self._index = index
        self._cache = cache
        self._project = project
        self._lock = threading.Lock()

    def path(self, pin: WheelPin) -> Path:
        found = self._found(pin)
        if found is None:
            raise _not_found(pin, "the wheel is neither in mlserver.wheels/ nor in the cache")
        if file_digest(found) != pin.sha256:
            raise DigestMismatch(f"The wheel {found} does not have the content that mlserver.lock pins ({pin.sha256}).")
        return found

    def fetch(
        self,
        pins: Sequence[WheelPin],
        *,
        base: BasePin,  # noqa: ARG002 - a pin names one file, wherever it runs
        platform: Platform,  # noqa: ARG002
        on_progress: OnProgress = ignore_progress,
    ) -> None:
        with self._lock:
            missing = {pin.sha256: pin for pin in pins if not self._has(pin)}
            if not missing:
                return
            contents = {digest: self._content(pin) for digest, pin in missing.items()}
            total, done = sum(pin.size_bytes for pin in missing.values()), 0
            on_progress(TaskProgress(doing=f"Fetching {len(missing)} wheels", total=total))
            for digest, pin in missing.items():
                done += pin.size_bytes
                on_progress(TaskProgress(doing=f"Fetching: {pin.filename}", done=done, total=total))
                write_atomically(self._cached(pin), contents[digest])

    def _content(self, pin: WheelPin) -> bytes:
        if not self._index.reachable:
            raise _not_found(pin, "no package index answered")
        content = self._index.get(pin.filename)
        if content is None:
            raise _not_found(pin, "no package index has this wheel any more")
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != pin.sha256:
            raise DigestMismatch(
                f"The package index has {pin.name} {pin.version} with content that differs from mlserver.lock."
            )
        return content

    def _has(self, pin: WheelPin) -> bool:
        found = self._found(pin)
        return found is not None and found.stat().st_size == pin.size_bytes

    def _found(self, pin: WheelPin) -> Path | None:
        places = [] if self._project is None else [self._project / pin.filename]
        return next((path for path in (*places, self._cached(pin)) if path.is_file()), None)

    def _cached(self, pin: WheelPin) -> Path:
        return self._cache / pin.sha256.hex / pin.filename


class MemoryResolver(Resolver):
    """Implements :class:`mendel.images.Resolver`: searches an index in memory depth first."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index

    def resolve(
        self,
        requirements: Sequence[str],
        *,
        base: BasePin,
        platform: Platform,
        own: Sequence[str] = (),
        constraints: Sequence[str] = (),
        hashes: Hashes | None = None,
        prefer: Sequence[WheelPin] = (),
    ) -> tuple[WheelPin, ...]:
        """Tries preferred versions before newer versions, and backtracks from a choice that leads to no solution."""
        if not self._index.reachable:
            raise ProgramFailed("The resolver could not reach a package index.", log_tail="")
        search = _Search(
            index=self._index,
            tags=tuple(_tags(base, platform)),
            environment=marker_environment(base, platform),
            bounds=[(_parsed(line), "The project's constraints allow only") for line in constraints],
            preferred={canonicalize_name(pin.name): Version(pin.version) for pin in prefer},
        )
        if hashes is not None:
            alone = self.resolve(requirements, base=base, platform=platform, constraints=constraints)
            _require_hashes(alone, hashes)
            constraints = [*constraints, *(f"{pin.name}=={pin.version}" for pin in alone)]
            return self.resolve(
                requirements, base=base, platform=platform, own=own, constraints=constraints, prefer=prefer
            )
        asked = [(_parsed(line), "The project requires") for line in requirements]
        asked += [(_parsed(line), "Mendel itself requires") for line in own]
        chosen = search.run([one for one in asked if search.applies(one[0], ())], {})
        if chosen is not None:
            return tuple(sorted((one.pin for one in chosen.values()), key=lambda pin: pin.name))
        where = f"Python {base.python} on {platform} with glibc {base.glibc}"
        if search.absent:
            reasons = tuple(f"{name}: {self._why_absent(name)}" for name in sorted(search.absent))
            raise BuildRefused(
                f"No wheels satisfy the requirements for {where}.", reasons=reasons, remedy=OTHER_ENGINES
            )
        raise BuildRefused(f"The requirements cannot all be met for {where}.", reasons=tuple(sorted(search.conflicts)))

    def _why_absent(self, line: str) -> str:
        known = self._index.knows(_parsed(line).name)
        return (
            ("the package index has only source distributions, or wheels for other platforms")
            if known
            else "no package index has this distribution"
        )


@dataclass(kw_only=True)
class _Search:
    """
    One call of :meth:`MemoryResolver.resolve`; *absent* and *conflicts* are the reasons why branches of the search
    failed.
    """

    index: MemoryIndex
    tags: tuple[Tag, ...]
    environment: Mapping[str, str]
    bounds: list[tuple[Requirement, str]]
    preferred: Mapping[NormalizedName, Version]
    absent: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)
    askers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def run(
        self, pending: list[tuple[Requirement, str]], chosen: dict[NormalizedName, _Candidate]
    ) -> dict[NormalizedName, _Candidate] | None:
        """A choice of wheels that satisfies every *pending* requirement, or None."""
        if not pending:
            return chosen
        (asked, by), *rest = pending
        name = canonicalize_name(asked.name)
        self.askers[name].add(f"{by} {asked}")
        if (former := chosen.get(name)) is not None:
            if not asked.specifier.contains(former.version, prereleases=True):
                self.conflicts |= self.askers[name]
                return None
            return self.run([*self._needs(former, asked), *rest], chosen)
        found = self.index.candidates(name, self.tags)
        wanted = asked.specifier & self._bound(name)
        allowed = [one for one in found if one.version in set(wanted.filter([each.version for each in found]))]
        if not any(asked.specifier.contains(one.version, prereleases=True) for one in found):
            self.absent.add(str(asked))
        elif not allowed:
            self.conflicts |= self.askers[name] | {
                f"{who} {one}" for one, who in self.bounds if canonicalize_name(one.name) == name
            }
        for one in sorted(allowed, key=lambda one: one.version != self.preferred.get(name)):
            further = [*rest, *self._needs(one, asked)]
            if (whole := self.run(further, {**chosen, name: one})) is not None:
                return whole
        return None

    def applies(self, requirement: Requirement, extras: Iterable[str]) -> bool:
        """Whether the requirement's marker holds for the base, without an extra or with one of *extras*."""
        marker = requirement.marker
        return marker is None or any(marker.evaluate({**self.environment, "extra": one}) for one in ("", *extras))

    def _needs(self, one: _Candidate, asked: Requirement) -> Iterator[tuple[Requirement, str]]:
        by = f"{one.pin.name} {one.version} depends on"
        yield from ((need, by) for need in one.requires if self.applies(need, asked.extras))

    def _bound(self, name: NormalizedName) -> SpecifierSet:
        whole = SpecifierSet()
        for one, _ in self.bounds:
            if canonicalize_name(one.name) == name and self.applies(one, ()):
                whole &= one.specifier
        return whole


def _require_hashes(pins: Iterable[WheelPin], hashes: Hashes) -> None:
    known = {requirement_name(line) for line, _ in hashes}
    missing = [f"{pin.name}=={pin.version}: the requirements give no hash" for pin in pins if pin.name not in known]
    differing = [f"{pin.name}=={pin.version}: the wheel has {pin.sha256}" for pin in refused_by_hashes(pins, hashes)]
    if missing or differing:
        raise BuildRefused(
            "The hashes in the requirements do not cover the wheels that the requirements need.",
            reasons=(*missing, *differing),
        )


def _requires(wheel: bytes) -> tuple[Requirement, ...]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    return tuple(Requirement(line) for line in headers.get_all("Requires-Dist") or ())


def _tags(base: BasePin, platform: Platform) -> Iterator[Tag]:
    major, minor = (int(part) for part in base.python.split("."))
    platforms = list(platform_tags(base.glibc, platform))
    yield from cpython_tags((major, minor), [f"cp{major}{minor}"], platforms)
    yield from compatible_tags((major, minor), f"cp{major}{minor}", platforms)


def _parsed(line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise InvalidValue(f"{line!r} is not a requirement: {error}.") from error


def _not_found(pin: WheelPin, why: str) -> WheelNotFound:
    return WheelNotFound(f"The wheel {pin.filename} ({pin.sha256}) was not found: {why}.")
