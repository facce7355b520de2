"""Makes, reads, checks and writes ``mlserver.lock``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from mendel.adapters.git import GitPrograms
from mendel.adapters.oci.layers.compression import compressor
from mendel.adapters.pip import CachedWheels
from mendel.app.images.cache_directories import Places
from mendel.app.project.installed_tool import this_tool
from mendel.errors import InvalidProject, StaleLock
from mendel.images import (
    LOCK_FILE,
    REQUIREMENTS_FILE,
    WHEELS_DIRECTORY,
    BasePin,
    Bases,
    Environment,
    Lock,
    OnProgress,
    Platform,
    Requirements,
    Resolver,
    RuntimePin,
    WheelPin,
    Wheels,
    environment_inputs,
    ignore_progress,
    read_requirements,
    refused_by_hashes,
)
from mendel.images.requirements import Hashes
from mendel.projects import Classifier, Project
from mendel.values import Digest
from mendel.values.atomic_files import replacing, write_atomically
from mendel.values.directory_trees import file_digest

_LOCAL_BASES = ("oci:", "oci-archive:")
_MAX_FILE_BYTES = 1 << 20
_NO_FILE = (
    f"{REQUIREMENTS_FILE} is missing: the image contains only Mendel's own requirements (numpy, scikit-learn, ...)."
)
_PROGRAM_NEEDS = ("numpy",)
"""The requirements of the program that runs a predictor in the project's own environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    The requirements and base image of one classifier's image on one platform.

    Attributes:
        isolated: Whether the image has an environment of its own for the project's requirements.
        inputs: The digest of these inputs; a lock that is up to date holds the same digest.
    """

    classifier: str
    platform: Platform
    base_reference: str
    requirements: Requirements
    isolated: bool
    inputs: Digest


class Locking:
    """
    Makes locks: pins of base images and wheels.

    Args:
        bases, resolver: Find base images and wheels.
        runtime: The pin of Mendel's own wheel.
        own: The requirements of Mendel's own wheel, in normal form.
        compressor: The name and version of the compressor of layers.
    """

    def __init__(
        self, *, bases: Bases, resolver: Resolver, runtime: RuntimePin, own: tuple[str, ...], compressor: str
    ) -> None:
        self._bases = bases
        self._resolver = resolver
        self._runtime = runtime
        self._own = own
        self._compressor = compressor

    def make_lock(
        self,
        project: Project,
        *,
        platforms: Sequence[Platform],
        classifiers: Sequence[str] | None = None,
        former: Lock | None = None,
        upgrade: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> Lock:
        """
        Make a lock without writing it; classifiers with equal inputs share an environment.

        Args:
            platforms: Platforms to pin in addition to those of *former*.
            classifiers: The classifiers to pin again; None means all. Other classifiers keep their pins if their
                inputs are unchanged; otherwise they are pinned again too, because one lock pins one Mendel for all.
            former: The former lock; its pins are kept if they still satisfy the requirements.
            upgrade: Pin the newest versions instead of keeping pins of *former*.

        Raises:
            BuildRefused: The requirements cannot be pinned, or no wheels satisfy them; the message has every reason.
            ImageNotFound, RegistryUnavailable: The base image is not available.
        """
        chosen = [project.classifier(name) for name in (project.names if classifiers is None else classifiers)]
        wanted = {*platforms, *(Platform.parse(old.platform) for old in (former.environments if former else ()))}
        asked = [asked_by(project, each, platform, self._own) for platform in sorted(wanted) for each in chosen]
        named = {each.name for each in chosen}
        kept, outdated = self._others(project, former, named)
        asked += outdated
        fresh = []
        for _, group in groupby(sorted(asked, key=_environment_key), key=_environment_key):
            alike = list(group)
            newest = upgrade and any(one.classifier in named for one in alike)
            fresh.append(self._environment(alike, former, upgrade=newest, on_progress=on_progress))
        return Lock(
            runtime=self._runtime,
            environments=tuple(sorted(_merged([*kept, *fresh]), key=lambda env: (env.platform, env.classifiers))),
            compressor=self._compressor,
        )

    def _others(
        self, project: Project, former: Lock | None, named: Collection[str]
    ) -> tuple[list[Environment], list[Asked]]:
        """For the classifiers outside *named*: the environments that are up to date, and the inputs of the others."""
        kept, outdated = [], []
        for env in former.environments if former is not None else ():
            for name in env.classifiers:
                if name in named or name not in project.names:
                    continue
                asked = asked_by(project, project.classifier(name), Platform.parse(env.platform), self._own)
                if asked.inputs == env.inputs:
                    kept.append(replace(env, classifiers=(name,)))
                else:
                    outdated.append(asked)
        return kept, outdated

    def _environment(
        self, alike: Sequence[Asked], former: Lock | None, *, upgrade: bool, on_progress: OnProgress
    ) -> Environment:
        one = alike[0]
        same_platform = [env for env in (former.environments if former else ()) if env.platform == str(one.platform)]
        same = None if upgrade else next((env for env in same_platform if env.inputs == one.inputs), None)
        base = self._base(one, [] if upgrade else same_platform, on_progress)
        unhashed = one.requirements.hashes is None  # else pip checks them anew: the lock does not record hashes
        if unhashed and same is not None and _alike(same.base, base):
            wheels, project = same.wheels, same.project
        else:
            wheels, project = self._wheels(one, base, [] if upgrade else _near(same_platform, alike)[:1])
        return Environment(
            classifiers=tuple(sorted(each.classifier for each in alike)),
            platform=str(one.platform),
            inputs=one.inputs,
            requirements=one.requirements.recorded,
            base=base,
            wheels=wheels,
            project=project,
        )

    def _base(self, one: Asked, former: Iterable[Environment], on_progress: OnProgress) -> BasePin:
        """Keep the former pin of a registry's base image; pin a local base again: its content may have changed."""
        kept = next((env.base for env in former if env.base.reference == one.base_reference), None)
        if kept is not None and not one.base_reference.startswith(_LOCAL_BASES):
            return kept
        return self._bases.pin(one.base_reference, one.platform, on_progress=on_progress)

    def _wheels(
        self, one: Asked, base: BasePin, near: Sequence[Environment]
    ) -> tuple[tuple[WheelPin, ...], tuple[WheelPin, ...] | None]:
        """Choose the wheels beside Mendel's own, and those of the project's own environment, if it has one."""
        prefer = [pin for env in near for pin in env.wheels]
        if not one.isolated:
            return self._of_project(one, base.for_runtime, self._own, prefer), None
        for_project = [pin for env in near for pin in (env.wheels if env.project is None else env.project)]
        found = self._resolver.resolve((), own=self._own, base=base.for_runtime, platform=one.platform, prefer=prefer)
        own = tuple(pin for pin in found if pin.name != self._runtime.wheel.name)
        return own, self._of_project(one, base, _PROGRAM_NEEDS, for_project)

    def _of_project(
        self, one: Asked, base: BasePin, own: tuple[str, ...], prefer: Sequence[WheelPin]
    ) -> tuple[WheelPin, ...]:
        found = self._resolver.resolve(
            one.requirements.lines,
            own=own,
            base=base,
            platform=one.platform,
            constraints=one.requirements.constraints,
            hashes=one.requirements.hashes,
            prefer=prefer,
        )
        return tuple(pin for pin in found if pin.name != self._runtime.wheel.name)


def locking_for(wheels: CachedWheels, bases: Bases, *, on_progress: OnProgress = ignore_progress) -> Locking:
    """
    Lock with the installed Mendel and this machine's pip.

    Raises:
        Unsupported: The extra ``build`` is not installed, or the files of this Mendel are unknown.
    """
    from mendel.adapters.pip import PipResolver  # noqa: PLC0415 - a build from a lock resolves nothing
    from mendel.app.images.runtime_wheel import runtime_pin, runtime_source  # noqa: PLC0415

    source = runtime_source(this_tool(), GitPrograms())
    return Locking(
        bases=bases,
        resolver=PipResolver(wheels, on_progress=on_progress),
        runtime=runtime_pin(source, wheels),
        own=source.requirements,
        compressor=compressor(),
    )


def wheels_for(places: Places) -> CachedWheels:
    """The wheels in the project's ``mlserver.wheels/`` and in the cache."""
    return CachedWheels(places.cache / "wheels", project=places.project / WHEELS_DIRECTORY)


def asked_by(project: Project, classifier: Classifier, platform: Platform, own: Sequence[str]) -> Asked:
    """
    Read the current requirements and base image of *classifier*.

    Raises:
        BuildRefused: The requirements cannot be pinned.
    """
    requirements = requirements_of(project, classifier)
    reference, isolated = classifier.build.base_image, _is_isolated(project, classifier)
    return Asked(
        classifier=classifier.name,
        platform=platform,
        base_reference=reference,
        requirements=requirements,
        isolated=isolated,
        inputs=environment_inputs(
            base_reference=reference,
            requirements=requirements.recorded,
            own=own,
            platform=platform,
            isolated=isolated,
        ),
    )


def _is_isolated(project: Project, classifier: Classifier) -> bool:
    """Decide whether the image of *classifier* has an environment of its own for the project's requirements."""
    if classifier.build.isolation is not None:
        return classifier.build.isolation == "process"
    return classifier.predictor.backend != "thread" and _requirements_file(project, classifier) is not None


def _requirements_file(project: Project, classifier: Classifier) -> str | None:
    named = classifier.build.requirements
    return named or (REQUIREMENTS_FILE if (project.root / REQUIREMENTS_FILE).is_file() else None)


def requirements_of(project: Project, classifier: Classifier) -> Requirements:
    """
    Read the file that ``build.requirements`` names, else ``requirements.txt``; without a file, return only a hint.

    Raises:
        BuildRefused: The requirements cannot be pinned, or the named file does not exist.
    """
    name = _requirements_file(project, classifier)
    if name is None:
        return Requirements(hints=(_NO_FILE,))
    return read_requirements(name, _reader(project.root.resolve()))


def read_lock(directory: Path) -> Lock | None:
    """
    Read the lock of the project in *directory*; None if the project has no lock.

    Raises:
        InvalidProject: The file is not a lock, or has another format.
    """
    file = directory / LOCK_FILE
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    return Lock.parse(content, path=str(file))


def write_lock(directory: Path, lock: Lock) -> bool:
    """
    Write the lock atomically; return whether the file changed.

    Raises:
        StoreUnavailable: The lock cannot be written; the former lock is unchanged.
    """
    file, content = directory / LOCK_FILE, lock.as_text().encode()
    if file.is_file() and file.read_bytes() == content:
        return False
    write_atomically(file, content)
    return True


def check_fresh(
    lock: Lock, project: Project, classifier: str, platform: Platform, *, own: Sequence[str] | None = None
) -> Environment:
    """
    Return the locked environment of *classifier*, if it matches the project's current inputs.

    Args:
        own: The requirements of Mendel's own wheel, if the lock pins the installed Mendel.

    Raises:
        StaleLock: The inputs changed, which the message names; or the lock lacks this classifier or platform.
        BuildRefused: The requirements cannot be pinned now.
    """
    environment = lock.environment(classifier, platform)
    asked = asked_by(project, project.classifier(classifier), platform, own or ())
    changes = [*_differences(environment, asked)]
    if (change := _isolation_change(lock, environment, asked, project.classifier(classifier))) is not None:
        changes.append(change)
    if not changes and own is not None and asked.inputs != environment.inputs:
        changes.append("Mendel's own requirements changed")
    if changes:
        raise StaleLock(
            f"{LOCK_FILE} is out of date for {classifier} on {platform}: {'; '.join(changes)}.",
            remedy="Run: mendel lock",
        )
    return environment


def bring_wheels(
    directory: Path, lock: Lock, wheels: Wheels, *, every: bool, on_progress: OnProgress = ignore_progress
) -> tuple[str, ...]:
    """
    Copy Mendel's own wheel, which no index has, into the project's directory of wheels; with *every*, copy all wheels.

    Wheels that are missing in the cache are downloaded first.

    Returns:
        The names of the new files, sorted.

    Raises:
        StoreUnavailable: A wheel cannot be written.
        WheelNotFound, DigestMismatch: A wheel is not available, or does not match its pin.
    """
    for env in lock.environments if every else ():
        for base, wanted in env.parts:
            wheels.fetch(wanted, base=base, platform=Platform.parse(env.platform), on_progress=on_progress)
    pins = [lock.runtime.wheel, *(_pins(lock) if every else ())]
    into = directory / WHEELS_DIRECTORY
    brought = set()
    for pin in dict.fromkeys(pins):
        target = into / pin.filename
        if target.is_file() and file_digest(target) == pin.sha256:
            continue
        source = wheels.path(pin)
        with replacing(target) as unfinished:
            shutil.copyfile(source, unfinished)
        brought.add(pin.filename)
    return tuple(sorted(brought))


def drop_wheels(directory: Path, former: Lock | None, lock: Lock) -> tuple[str, ...]:
    """Remove the project's wheels that *former* pinned and *lock* does not; other files belong to the user and stay."""
    needed = {pin.filename for pin in (lock.runtime.wheel, *_pins(lock))}
    dropped = []
    for pin in (former.runtime.wheel, *_pins(former)) if former is not None else ():
        file = directory / WHEELS_DIRECTORY / pin.filename
        if pin.filename not in needed and file.is_file() and file_digest(file) == pin.sha256:
            file.unlink()
            dropped.append(pin.filename)
    return tuple(sorted(dropped))


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChange:
    """A changed pin; ``before`` is None for a new pin, ``after`` is None for a removed pin."""

    platform: str
    classifiers: tuple[str, ...]
    name: str
    before: str | None
    after: str | None


def changes_between(former: Lock | None, lock: Lock) -> tuple[LockChange, ...]:
    """The pins that differ between *former* and *lock*, sorted within each environment."""
    old = {(name, env.platform): env for env in (former.environments if former else ()) for name in env.classifiers}
    return tuple(
        LockChange(platform=env.platform, classifiers=env.classifiers, name=name, before=before, after=after)
        for env in lock.environments
        for name, before, after in _moved(_former_facts(old, env), _facts(env))
    )


def _former_facts(old: Mapping[tuple[str, str], Environment], env: Environment) -> Mapping[str, str]:
    found = (old[name, env.platform] for name in env.classifiers if (name, env.platform) in old)
    return next((_facts(before) for before in found), {})


def _moved(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, str | None, str | None]]:
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            yield name, was.get(name), now.get(name)


def total_bytes(lock: Lock) -> int:
    """Size of all pinned wheels, each counted once."""
    return sum({pin.sha256: pin.size_bytes for pin in (lock.runtime.wheel, *_pins(lock))}.values())


def _pins(lock: Lock) -> Iterator[WheelPin]:
    for environment in lock.environments:
        yield from environment.every_wheel


def _facts(environment: Environment) -> Mapping[str, str]:
    """Version and short digest of each pin by name; the digest tells two wheels of one version apart."""
    isolated = environment.project is not None
    wheels = {f"{pin.name} (Mendel)" if isolated else pin.name: _version(pin) for pin in environment.wheels}
    project = {pin.name: _version(pin) for pin in environment.project or ()}
    return {f"base {environment.base.reference}": environment.base.digest, **wheels, **project}


def _version(pin: WheelPin) -> str:
    return f"{pin.version} ({pin.sha256.hex[:7]})"


def _alike(one: BasePin, other: BasePin) -> bool:
    """Tell whether two base images run the same wheels."""
    return replace(one, reference=other.reference, digest=other.digest) == other


def _environment_key(asked: Asked) -> tuple[str, Hashes]:
    return asked.inputs, asked.requirements.hashes or ()


def _near(same_platform: Sequence[Environment], alike: Sequence[Asked]) -> list[Environment]:
    """The former environments whose versions to prefer, those of the same classifiers first."""
    names = {each.classifier for each in alike}
    return sorted(same_platform, key=lambda env: names.isdisjoint(env.classifiers))


def _merged(environments: Iterable[Environment]) -> Iterator[Environment]:
    """Merge environments that are equal except for their classifiers."""
    groups: dict[Environment, list[str]] = {}
    for env in environments:
        groups.setdefault(replace(env, classifiers=()), []).extend(env.classifiers)
    for env, names in groups.items():
        yield replace(env, classifiers=tuple(sorted(names)))


def _differences(environment: Environment, asked: Asked) -> Iterator[str]:
    was, now = set(environment.requirements), set(asked.requirements.recorded)
    if added := sorted(now - was):
        yield f"new requirements: {', '.join(added)}"
    if gone := sorted(was - now):
        yield f"removed requirements: {', '.join(gone)}"
    wheels = environment.wheels if environment.project is None else environment.project
    for pin in refused_by_hashes(wheels, asked.requirements.hashes):
        yield f"the requirements do not allow {pin.filename} with the hash {pin.sha256}"
    if environment.base.reference != asked.base_reference:
        yield f"the base image changed from {environment.base.reference} to {asked.base_reference}"


def _isolation_change(lock: Lock, environment: Environment, asked: Asked, classifier: Classifier) -> str | None:
    """Say that ``build.isolation`` changed; a lock of format 1 holds for a project that does not set the key."""
    was = environment.project is not None
    older = lock.format == 1 and classifier.build.isolation is None
    if was == asked.isolated or (older and not was):
        return None
    before, now = ("process" if isolated else "shared" for isolated in (was, asked.isolated))
    return f"build.isolation changed from {before} to {now}"


def _reader(root: Path) -> Callable[[str], str | None]:
    def read(name: str) -> str | None:
        file = (root / name).resolve()
        if not file.is_relative_to(root) or not file.is_file() or file.stat().st_size > _MAX_FILE_BYTES:
            return None
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InvalidProject(f"The file is not UTF-8: {error.reason}.", path=str(file)) from error

    return read
