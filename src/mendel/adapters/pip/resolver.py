"""Resolves requirements with pip, for a Python and a C library that may differ from this machine's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mendel.adapters.pip.pip_program import Finished, Pip, requirement_file
from mendel.adapters.pip.wheel_cache import CachedWheels
from mendel.errors import BuildRefused
from mendel.images import (
    BasePin,
    OnProgress,
    Platform,
    Resolver,
    TaskProgress,
    WheelPin,
    ignore_progress,
    normalized_name,
)
from mendel.images.requirements import OTHER_ENGINES
from mendel.values import Digest
from mendel.values.directory_trees import file_digest

_CONSTRAINED = re.compile(r"\(constraint\) ([A-Za-z0-9._-]+)==")
_UNMATCHED = re.compile(r"No matching distribution found for ([A-Za-z0-9][A-Za-z0-9._-]*)(.*)")
_CAUSE, _ADVICE = "The conflict is caused by:", "To fix this"
_NO_CONTENT = Digest(f"sha256:{'0' * 64}")


class PipResolver(Resolver):
    """
    Implements :class:`mendel.images.Resolver`: asks pip which packages it would install.

    Wheels that are not in the cache are then downloaded, because a lockfile pins only wheels that were read completely.

    Args:
        wheels: The cache of wheels; it also gives sizes, and digests if the index states none.
    """

    def __init__(
        self, wheels: CachedWheels, *, pip: Pip | None = None, on_progress: OnProgress = ignore_progress
    ) -> None:
        self._wheels = wheels
        self._pip = Pip() if pip is None else pip
        self._on_progress = on_progress

    def resolve(
        self,
        requirements: Sequence[str],
        *,
        base: BasePin,
        platform: Platform,
        constraints: Sequence[str] = (),
        prefer: Sequence[WheelPin] = (),
    ) -> tuple[WheelPin, ...]:
        """Runs pip once, and again without each preferred version that prevents a solution."""
        wanted = {pin.name: pin.version for pin in prefer}
        with self._wheels.unfinished() as directory:
            while True:
                asked = _Asked(directory, requirements, constraints, wanted)
                report = directory / "report.json"
                self._on_progress(TaskProgress(doing=f"Resolving {len(requirements)} requirements for {platform}"))
                finished = self._pip.run(*asked.arguments(report), base=base, platform=platform)
                if not finished.status:
                    break
                in_the_way = _in_the_way(finished) & wanted.keys()
                if not wanted or finished.late or finished.offline:
                    raise self._refused(finished, base, platform)
                wanted = {name: version for name, version in wanted.items() if in_the_way and name not in in_the_way}
            found = tuple(_reported(json.loads(report.read_text(encoding="utf-8"))))
            return self._seen_whole(found, directory, prefer, base=base, platform=platform)

    def _seen_whole(
        self,
        found: Sequence[WheelPin],
        directory: Path,
        known: Sequence[WheelPin],
        *,
        base: BasePin,
        platform: Platform,
    ) -> tuple[WheelPin, ...]:
        sizes = {pin.sha256: pin.size_bytes for pin in known}
        sized = [replace(pin, size_bytes=sizes.get(pin.sha256, 0)) for pin in found]
        nameless = [pin for pin in sized if pin.sha256 == _NO_CONTENT]
        told = [pin for pin in sized if pin.sha256 != _NO_CONTENT]
        self._wheels.fetch(told, base=base, platform=platform, on_progress=self._on_progress)
        pins = [replace(pin, size_bytes=self._wheels.path(pin).stat().st_size) for pin in told]
        if nameless:
            pins += self._hashed(nameless, directory / "nameless", base=base, platform=platform)
        return tuple(sorted(pins, key=lambda pin: pin.name))

    def _hashed(
        self, nameless: Sequence[WheelPin], into: Path, *, base: BasePin, platform: Platform
    ) -> Iterator[WheelPin]:
        exact = [f"{pin.name}=={pin.version}" for pin in nameless]
        finished = self._pip.run("download", "--no-deps", "--dest", str(into), *exact, base=base, platform=platform)
        if finished.status:
            raise finished.failure(f"fetch {', '.join(exact)}")
        for pin in nameless:
            file = into / pin.filename
            whole = replace(pin, sha256=file_digest(file), size_bytes=file.stat().st_size)
            self._wheels.keep(file, whole)
            yield whole

    def _refused(self, finished: Finished, base: BasePin, platform: Platform) -> Exception:
        where = f"Python {base.python} on {platform} with glibc {base.glibc}"
        if finished.late or finished.offline:
            return finished.failure("reach a package index" if finished.offline else "resolve the requirements")
        unmatched = next((found for line in finished.lines if (found := _UNMATCHED.search(line))), None)
        if unmatched is not None:
            reason = self._unmatched(unmatched[1], f"{unmatched[1]}{unmatched[2]}".strip(), base, platform)
            return BuildRefused(
                f"No wheels satisfy the requirements for {where}.", reasons=(reason,), remedy=OTHER_ENGINES
            )
        conflict = tuple(_conflict(finished.lines))
        if conflict:
            return BuildRefused(
                f"The requirements cannot all be met for {where}.",
                reasons=conflict,
                remedy=(
                    "Allow more versions in one of the listed requirements; requirements of Mendel itself "
                    "cannot be changed."
                ),
            )
        return finished.failure("resolve the requirements")

    def _unmatched(self, name: str, asked: str, base: BasePin, platform: Platform) -> str:
        """Explain why a requirement has no wheel: the index does not know the name, or has no fitting wheel."""
        known = self._pip.run("index", "versions", name, base=base, platform=platform, wheels_only=False)
        if known.status:
            return f"{asked}: no package index has this distribution"
        return f"{asked}: the package index has only source distributions, or wheels for other platforms"


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request to pip."""

    directory: Path
    requirements: Sequence[str]
    constraints: Sequence[str]
    preferred: dict[str, str]

    def arguments(self, report: Path) -> tuple[str, ...]:
        """The requirements as arguments of pip."""
        asked = requirement_file(self.directory, "requirements.txt", self.requirements)
        bounds = [*self.constraints, *(f"{name}=={version}" for name, version in sorted(self.preferred.items()))]
        bounded = ("--constraint", requirement_file(self.directory, "constraints.txt", bounds)) if bounds else ()
        nowhere = str(self.directory / "nothing-is-installed")  # pip before 23.3 requires a target directory
        what = ("install", "--dry-run", "--ignore-installed", "--target", nowhere, "--report", str(report))
        return (*what, "--requirement", asked, *bounded)


def _reported(report: dict[str, Any]) -> Iterator[WheelPin]:
    for entry in report["install"]:
        download = entry["download_info"]
        digest = (download.get("archive_info") or {}).get("hashes", {}).get("sha256")
        name = normalized_name(entry["metadata"]["name"])
        yield WheelPin(
            name=name,
            version=entry["metadata"]["version"],
            filename=unquote(urlsplit(download["url"]).path.rsplit("/", 1)[-1]),
            sha256=_NO_CONTENT if digest is None else Digest(f"sha256:{digest}"),
            size_bytes=0,
        )


def _in_the_way(finished: Finished) -> set[str]:
    bounds = {normalized_name(name) for line in finished.lines for name in _CONSTRAINED.findall(line)}
    unmatched = {normalized_name(found[1]) for line in finished.lines if (found := _UNMATCHED.search(line))}
    return bounds | unmatched


def _conflict(lines: Sequence[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        if inside and (not line.strip() or line.startswith(_ADVICE)):
            return
        if inside:
            yield line.strip()
        inside = inside or _CAUSE in line
