"""Make Python environments from ``mlserver.lock``, for models with processes of their own and for training jobs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import structlog

from mendel.errors import InvalidProject, MendelError, ModelNotLoadable, NeedsNewImage, StaleLock, StoreUnavailable
from mendel.images.file_names import LOCK_FILE
from mendel.images.wheel_metadata import normalized_name
from mendel.projects import load_project
from mendel.serving import CARRIED, read_mlmodel

if TYPE_CHECKING:
    from mendel.images import BasePin, Lock, Platform, WheelPin

_log = structlog.get_logger("mendel.environments")
_ASK: Final = "import json, sys; print(json.dumps([*sys.version_info[:2], sys._base_executable or sys.executable]))"
_ASK_S: Final = 20
_COMPILE_S: Final = 600
_COMPLETE: Final = ".complete"
_GLIBC: Final = re.compile(r"manylinux_2_(\d+)_|manylinux(2014|2010|1)_")
_NAMED_GLIBC: Final = {"2014": 17, "2010": 12, "1": 5}
_CONFIGURATION: Final = "home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needed:
    """
    The environment of a project in a lock, and its directory.

    Attributes:
        project: The directory of the project that contains the lock.
        base: The base image with the Python of the environment.
    """

    project: Path
    base: BasePin
    wheels: tuple[WheelPin, ...]
    platform: str
    place: Path

    @property
    def python(self) -> Path:
        return self.place / "bin" / "python"

    def is_made(self) -> bool:
        """Tell whether the environment is complete: the marker is written last, and its Python is still installed."""
        return (self.place / _COMPLETE).is_file() and self.python.exists()


class LockEnvironments:
    """
    Implements :class:`mendel.serving.Environments`: virtual environments in the cache of the user.

    An environment is named by the digests of its wheels and the version of its Python, so that equal locks share one.
    It sees no packages of the system. It contains the modules of the wheels, and no scripts.

    Args:
        cache: Gives the user's cache of Mendel; its directory ``environments`` may be deleted while no server runs.
        builds: Whether environments may be used and made (``serving.environments: build``).
    """

    def __init__(self, cache: Callable[[], Path], *, builds: bool) -> None:
        self._cache = cache
        self._builds = builds

    def python_of(self, directory: Path) -> str | None:
        needed = self._of_artifact(directory)
        if needed is None:
            return None
        if not needed.is_made():
            raise NeedsNewImage(
                f"The environment of {LOCK_FILE}, in which this version was trained, is not on this server.",
                release=None,
                remedy="Deploy the version; servers make the environments of deployed versions, not of models by path.",
            )
        _require_own(needed.place)
        return str(needed.python)

    def make(self, directory: Path) -> None:
        needed = self._of_artifact(directory)
        if needed is not None:
            self._make(needed)

    def of_project(self, project: Path, classifier: str, *, locked: bool | None) -> str | None:
        """
        Implement :class:`mendel.adapters.processes.subprocess_runner.JobEnvironments`.

        Jobs run Mendel's own code beside the project's, so this machine can provide a lock only if it pins the same
        minor version of Python, and no older packages than Mendel itself needs. A classifier that runs in a thread of
        the server (``predictor.backend: thread``) is trained with the packages of Mendel, too.
        """
        if locked is False:
            return None
        try:
            return self._made_for_jobs(self._of_project(project, classifier))
        except MendelError as error:
            if locked:
                raise
            _log.info("lock_not_used", reason=error.message)  # the jobs then run with the packages of Mendel
            return None

    def of_artifacts(self, artifacts: Sequence[Path]) -> str | None:
        """
        Implement :class:`mendel.adapters.processes.subprocess_runner.JobEnvironments`.

        With ``serving.environments: fixed``, jobs over versions run with the packages of Mendel.
        """
        found = [self._of_artifact(artifact) for artifact in artifacts]
        if len({None if needed is None else needed.place for needed in found}) > 1:
            raise NeedsNewImage(
                "The versions were trained with different packages, so one process cannot compare them.",
                release=None,
                remedy="Train both versions with the same lock.",
            )
        return None if found[0] is None else self._made_for_jobs(found[0])

    def _of_project(self, project: Path, classifier: str) -> _Needed:
        if not (project / LOCK_FILE).is_file():
            raise _not_for_jobs(f"the project has no {LOCK_FILE}")
        lock = _lock(project)
        classifier = classifier or _only_classifier(lock)
        found = load_project(project)
        if classifier in found.names and found.classifier(classifier).predictor.backend == "thread":
            raise _not_for_jobs("the classifier runs in a thread of the server, with the packages of Mendel")
        needed = self._of_lock(project, lock, classifier)
        if needed is None:
            raise _not_for_jobs(f"the lock has no packages for {sys.platform} ({_this_platform()})")
        return needed

    def _made_for_jobs(self, needed: _Needed) -> str:
        """Make the environment, and give its interpreter, if Mendel's own code can run there beside the project's."""
        here = _minor(sys.version_info[:2])
        if not self._builds:
            raise _not_for_jobs("serving.environments is fixed")
        if needed.base.python != here:
            raise _not_for_jobs(f"the lock pins Python {needed.base.python}, and Mendel runs with Python {here}")
        if refused := _not_accepted(needed.wheels):
            raise _not_for_jobs(f"Mendel needs {', '.join(refused)}")
        self._make(needed)
        return str(needed.python)

    def _of_artifact(self, directory: Path) -> _Needed | None:
        project = directory / CARRIED
        if not self._builds or not (project / LOCK_FILE).is_file():
            return None
        mlmodel = read_mlmodel(directory)
        if not mlmodel.locked or mlmodel.classifier is None:
            return None
        try:
            needed = self._of_lock(project, _lock(project), mlmodel.classifier)
        except InvalidProject as error:
            raise ModelNotLoadable(f"The lock in the artefact cannot be read: {error.message}") from error
        if needed is None:
            raise NeedsNewImage(
                f"The lock of this version has no packages for {sys.platform} ({_this_platform()}).",
                release=None,
                remedy=f"On Linux: run 'mendel lock --platform {_this_platform()}', and train the new release. "
                "Elsewhere: set serving.model_python to a Python with the packages.",
            )
        return needed

    def _of_lock(self, project: Path, lock: Lock, classifier: str) -> _Needed | None:
        if sys.platform != "linux":
            return None
        try:
            locked = lock.environment(classifier, _this_platform())
        except StaleLock:
            return None
        base, wheels = locked.parts[-1]
        place = self._cache() / "environments" / _key(base, wheels)
        return _Needed(project=project, base=base, wheels=wheels, platform=locked.platform, place=place)

    def _make(self, needed: _Needed) -> None:
        if needed.is_made():
            _require_own(needed.place)
            return
        from mendel.app.images.cache_directories import Places  # noqa: PLC0415 - most servers make no environment
        from mendel.app.images.lockfile import wheels_for  # noqa: PLC0415 - as above
        from mendel.images import Platform, ignore_progress  # noqa: PLC0415 - as above

        place = needed.place
        python = _interpreter(needed.base.python)
        _require_glibc(needed.wheels)
        _log.info("environment_making", python=needed.base.python, wheels=len(needed.wheels), place=str(place))
        wheels = wheels_for(Places(project=needed.project, cache=self._cache()))
        platform = Platform.parse(needed.platform)
        wheels.fetch(needed.wheels, base=needed.base, platform=platform, on_progress=ignore_progress)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(place.parent)
        with _locked(place.parent / f"{place.name}.lock"):
            if needed.is_made():  # by another process
                return
            unfinished = f".{place.name}-"
            for left in place.parent.glob(f"{unfinished}*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=unfinished, dir=place.parent) as name:
                draft = Path(name) / "environment"
                _write(draft, needed, [wheels.path(pin) for pin in needed.wheels], python)
                shutil.rmtree(place, ignore_errors=True)
                draft.rename(place)
        _log.info("environment_made", place=str(place))


def _not_for_jobs(reason: str) -> NeedsNewImage:
    return NeedsNewImage(
        f"This machine cannot run jobs with the packages of {LOCK_FILE}: {reason}.",
        release=None,
        remedy=f"Lock again for Python {_minor(sys.version_info[:2])} with this Mendel, and train the new release.",
    )


def _lock(project: Path) -> Lock:
    from mendel.images.lockfile import Lock  # noqa: PLC0415 - most artefacts have no lock

    file = project / LOCK_FILE
    return Lock.parse(file.read_bytes(), path=str(file))


def _this_platform() -> Platform:
    from mendel.app.images.cache_directories import this_platform  # noqa: PLC0415 - most artefacts have no lock

    return this_platform()


def _only_classifier(lock: Lock) -> str:
    """Give a classifier of the only environment on this platform; an empty name if there are several environments."""
    here = [env for env in lock.environments if env.platform == str(_this_platform())]
    return here[0].classifiers[0] if len(here) == 1 else ""


def _key(base: BasePin, wheels: Sequence[WheelPin]) -> str:
    digests = "\n".join(sorted(pin.sha256 for pin in wheels))
    return f"py{base.python}-{hashlib.sha256(digests.encode()).hexdigest()[:32]}"


def _minor(version: Sequence[int]) -> str:
    return f"{version[0]}.{version[1]}"


def _interpreter(wanted: str) -> Path:
    """Find a Python of the minor version *wanted* on this machine."""
    for candidate in (sys.executable, shutil.which(f"python{wanted}")):
        if candidate is None:
            continue
        try:
            told = subprocess.run(  # noqa: S603 - an interpreter of this machine, a list of arguments
                [candidate, "-I", "-c", _ASK], capture_output=True, check=True, timeout=_ASK_S
            )
            major, minor, path = json.loads(told.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        if _minor((major, minor)) == wanted:
            return Path(path).resolve()
    raise NeedsNewImage(
        f"{LOCK_FILE} needs Python {wanted}, which this machine does not have.",
        release=None,
        remedy=f"Install python{wanted} on this machine, or deploy the image of the release.",
    )


def _require_glibc(pins: Sequence[WheelPin]) -> None:
    """Refuse wheels that need a newer C library than this machine has: their modules would fail to import."""
    told = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    if told is None:
        return
    here = int(told.rpartition(".")[2])
    for pin in pins:
        found = [int(minor) if minor else _NAMED_GLIBC[named] for minor, named in _GLIBC.findall(pin.filename)]
        if found and min(found) > here:
            raise NeedsNewImage(
                f"{pin.filename} needs the C library glibc 2.{min(found)}; this machine has 2.{here}.",
                release=None,
                remedy="Deploy the image of the release.",
            )


def _write(draft: Path, needed: _Needed, wheels: Sequence[Path], python: Path) -> None:
    from mendel.adapters.oci.layers.wheel_archives import wheel_files  # noqa: PLC0415 - most servers make none
    from mendel.images import Venv  # noqa: PLC0415 - as above

    draft.mkdir(mode=0o700)  # whatever the umask: nobody else may put a file there
    version, root = needed.base.python, "venv"
    venv = Venv(directory=PurePosixPath("/", root), base=needed.base, wheels=needed.wheels)
    modules = f"{root}/lib/python{version}/"
    for wheel in wheels:
        with wheel_files(wheel, venv) as files:
            for file in files:
                if not file.path.startswith(modules):
                    continue  # scripts, headers and data: no model imports them
                target = draft / file.path.removeprefix(f"{root}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as into:
                    into.writelines(file.content())
    (draft / "bin").mkdir(parents=True)
    (draft / "bin" / "python").symlink_to(python)
    (draft / "pyvenv.cfg").write_text(_CONFIGURATION.format(home=python.parent, version=version), encoding="utf-8")
    _compile(draft)
    os.sync()
    (draft / _COMPLETE).touch()


def _compile(draft: Path) -> None:
    """Write byte-code, because models write none; without ``site``, so that no code of a wheel runs."""
    nice = [found, "-n", "10"] if (found := shutil.which("nice")) else []
    compiling = [str(draft / "bin" / "python"), "-I", "-S", "-m", "compileall", "-q", "-j", "0"]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - the environment's own interpreter, a list of arguments
            [*nice, *compiling, "--invalidation-mode", "unchecked-hash", str(draft / "lib")],
            check=False,  # some packages contain modules for other versions of Python
            capture_output=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            timeout=_COMPILE_S,
        )


def _require_own(directory: Path) -> None:
    """
    Refuse a directory in which another user could put a Python that then runs as this user.

    Raises:
        StoreUnavailable: The directory belongs to another user, or others may write to it.
    """
    found = directory.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StoreUnavailable(
            f"Other users can write to {directory}, so it is not used for environments.",
            remedy="Delete the directory, or set MENDEL_CACHE to a directory that only this user can write to.",
        )


def _not_accepted(pins: Sequence[WheelPin]) -> tuple[str, ...]:
    """Give the requirements of Mendel that the locked packages do not meet."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - only where jobs run

    locked = {pin.name: pin for pin in pins}
    needs = [Requirement(line) for line in metadata.requires("mendel") or ()]
    return tuple(
        f"{need.name}{need.specifier} ({locked[name].version} is locked)"
        for need in needs
        if (name := normalized_name(need.name)) in locked
        and (need.marker is None or need.marker.evaluate({"extra": "hub"}))
        and not need.specifier.contains(locked[name].version, prereleases=True)
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
