"""Resolves requirements with pip, for a Python and a C library that may differ from this machine's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
    normal_requirement,
    normalized_name,
)
from mendel.images.requirements import OTHER_ENGINES, Hashes
from mendel.values import Digest
from mendel.values.directory_trees import file_digest

_CONSTRAINED = re.compile(r"\(constraint\) ([A-Za-z0-9._-]+)==")
_UNMATCHED = re.compile(r"No matching distribution found for ([A-Za-z0-9][A-Za-z0-9._-]*)(.*)")
_CAUSE, _ADVICE = "The conflict is caused by:", "To fix this"
_REQUESTED = re.compile(r"The user requested (?P<constraint>\(constraint\) )?(?P<line>.+)")
_HASH_ERRORS = {
    "Hashes are required in --require-hashes mode": "the requirements give no hash",
    "all requirements must have their versions pinned with ==": "the requirements do not list it with == and a hash",
    "DO NOT MATCH THE HASHES": "",
}
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
        own: Sequence[str] = (),
        constraints: Sequence[str] = (),
        hashes: Hashes | None = None,
        prefer: Sequence[WheelPin] = (),
    ) -> tuple[WheelPin, ...]:
        """
        Runs pip once, and again without each preferred version that prevents a solution.

        With *hashes*, pip first checks the project's requirements alone, because Mendel's own requirements have no
        hashes.
        """
        asked = _Asked(requirements=requirements, own=own, constraints=constraints, prefer=prefer)
        if hashes is None:
            return self._resolved(asked, base=base, platform=platform)
        alone = replace(asked, own=(), hashes=dict(hashes), prefer=())
        checked = {pin.name: pin for pin in self._resolved(alone, base=base, platform=platform)}
        exact = [f"{pin.name}=={pin.version}" for pin in checked.values()]
        others = [pin for pin in prefer if pin.name not in checked]
        found = self._resolved(
            replace(asked, constraints=[*constraints, *exact], prefer=others), base=base, platform=platform
        )
        return tuple(checked.get(pin.name, pin) for pin in found)

    def _resolved(self, asked: _Asked, *, base: BasePin, platform: Platform) -> tuple[WheelPin, ...]:
        wanted = {pin.name: pin.version for pin in asked.prefer}
        count = len(asked.requirements) + len(asked.own)
        with self._wheels.unfinished() as directory:
            while True:
                report = directory / "report.json"
                self._on_progress(TaskProgress(doing=f"Resolving {count} requirements for {platform}"))
                finished = self._pip.run(*asked.arguments(directory, report, wanted), base=base, platform=platform)
                if not finished.status:
                    break
                in_the_way = _in_the_way(finished) & wanted.keys()
                if not wanted or finished.late or finished.offline:
                    raise self._refused(finished, asked, base, platform)
                wanted = {name: version for name, version in wanted.items() if in_the_way and name not in in_the_way}
            found = tuple(_reported(json.loads(report.read_text(encoding="utf-8"))))
            return self._seen_whole(found, directory, asked.prefer, base=base, platform=platform)

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

    def _refused(self, finished: Finished, asked: _Asked, base: BasePin, platform: Platform) -> Exception:
        where = f"Python {base.python} on {platform} with glibc {base.glibc}"
        if finished.late or finished.offline:
            return finished.failure("reach a package index" if finished.offline else "resolve the requirements")
        if unproved := tuple(_without_fitting_hash(finished.lines)):
            return BuildRefused(
                "The hashes in the requirements do not cover the wheels that the requirements need.",
                reasons=unproved,
                remedy=(
                    "With hashes, the requirements list every distribution that they need, each with '==' and its "
                    "hashes; pip-compile and uv can write such files."
                ),
            )
        unmatched = next((found for line in finished.lines if (found := _UNMATCHED.search(line))), None)
        if unmatched is not None:
            reason = self._unmatched(unmatched[1], f"{unmatched[1]}{unmatched[2]}".strip(), base, platform)
            return BuildRefused(
                f"No wheels satisfy the requirements for {where}.", reasons=(reason,), remedy=OTHER_ENGINES
            )
        conflict = tuple(asked.attributed(line) for line in _conflict(finished.lines))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The requirements of the project and of Mendel, which pip gets as one list."""

    requirements: Sequence[str]
    own: Sequence[str]
    constraints: Sequence[str]
    prefer: Sequence[WheelPin]
    hashes: Mapping[str, Sequence[str]] | None = None

    def arguments(self, directory: Path, report: Path, preferred: Mapping[str, str]) -> tuple[str, ...]:
        """Write the files that pip reads, and give pip's arguments."""
        asked = requirement_file(directory, "requirements.txt", map(self._line, [*self.requirements, *self.own]))
        bounds = [*map(self._line, self.constraints), *(f"{name}=={preferred[name]}" for name in sorted(preferred))]
        bounded = ("--constraint", requirement_file(directory, "constraints.txt", bounds)) if bounds else ()
        checked = () if self.hashes is None else ("--require-hashes",)
        nowhere = str(directory / "nothing-is-installed")  # pip before 23.3 requires a target directory
        what = ("install", "--dry-run", "--ignore-installed", "--target", nowhere, "--report", str(report))
        return (*what, *checked, "--requirement", asked, *bounded)

    def attributed(self, line: str) -> str:
        """Name the one who requires something; pip calls both the project and Mendel *the user*."""
        found = _REQUESTED.fullmatch(line)
        if found is None:
            return line
        wanted = normal_requirement(found["line"])
        if found["constraint"]:
            return f"The project's constraints allow only {wanted}"
        if wanted not in self.own:
            return f"The project requires {wanted}"
        who = "The project and Mendel itself require" if wanted in self.requirements else "Mendel itself requires"
        return f"{who} {wanted}"

    def _line(self, line: str) -> str:
        return " ".join([line, *(f"--hash={one}" for one in (self.hashes or {}).get(line, ()))])


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


def _without_fitting_hash(lines: Sequence[str]) -> Iterator[str]:
    """Yield a reason for each wheel whose hash is missing or differs, from the lists that pip prints."""
    head, about = "", ""
    for line in lines:
        if not line.startswith(" "):
            head = next((known for known in _HASH_ERRORS if known in line), "")
            continue
        words = line.split()
        if not head:
            continue
        if words[0] == "Got":
            yield f"{about}: the wheel has sha256:{words[-1]}, which the requirements do not allow"
        elif words[0] not in {"Expected", "or"}:
            about = words[0]
            if why := _HASH_ERRORS[head]:
                yield f"{about}: {why}"
