"""``mlserver.lock`` pins base image and wheels of an image by digest; it is committed beside ``mlserver.yaml``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import msgspec

from mendel.errors import BuildRefused, InvalidProject, InvalidValue, StaleLock
from mendel.images.file_names import LOCK_FILE
from mendel.values import Digest, from_json, to_builtins, to_json

LOCK_FORMAT = 2
"""Locks of format 1 have one environment for Mendel and the project; this Mendel reads them, too."""

BUILDER_FORMAT = 2
"""The format number of built images; raised with every change of the builder that changes their bytes."""

OLDEST_PYTHON = (3, 11)
"""The oldest Python that runs Mendel; a project in an environment of its own may use an older one."""

_READ_FORMATS = {1, LOCK_FORMAT}
_PLATFORMS = {"linux/amd64", "linux/arm64"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9.!+_-]+")
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl")
_PYTHON = re.compile(r"3\.[0-9]+")
_GLIBC = re.compile(r"[0-9]+\.[0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """
    An operating system and processor, as OCI names them.

    >>> Platform.parse("linux/arm64").machine
    'aarch64'
    """

    os: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"

    @property
    def machine(self) -> str:
        """The processor's name in the file names of wheels."""
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.architecture]

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse ``linux/amd64`` or ``linux/arm64``; anything else raises InvalidValue."""
        if text not in _PLATFORMS:
            raise InvalidValue(f"The platform {text!r} is not supported.", remedy="Use linux/amd64 or linux/arm64.")
        return cls(*text.split("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPin:
    """
    A wheel, pinned by digest. The lock does not record an index: each machine fetches wheels from its own.

    Names and versions become file names and lines for pip, so they may contain no path separators or control
    characters, even when a stranger wrote the lock.
    """

    name: str
    version: str
    filename: str
    sha256: Digest
    size_bytes: int

    def __post_init__(self) -> None:
        _require(_NAME.fullmatch(self.name), self.name, "the name of a distribution")
        _require(_VERSION.fullmatch(self.version), self.version, "the version of a distribution")
        _require(_WHEEL.fullmatch(self.filename), self.filename, "the file name of a wheel")
        _require(self.size_bytes >= 0, self.size_bytes, "the size of a file")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePin:
    """
    The wheel of Mendel itself.

    Attributes:
        commit: The full id of the commit that the wheel was built from; None when unknown.
        url: The URL of the repository with that commit, without credentials.
        how: How the commit was found: ``installed``, ``checkout``, ``vcs``.
        dirty: True when the checkout had changes, so that the commit does not determine the wheel's content.
    """

    version: str
    commit: str | None
    url: str | None
    how: str
    wheel: WheelPin
    dirty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python of a base image: its minor version, such as ``3.11``, and its absolute path in the image."""

    python: str
    path: str

    def __post_init__(self) -> None:
        _require(_PYTHON.fullmatch(self.python), self.python, "a minor version of Python 3")
        _require(_is_absolute(self.path), self.path, "the absolute path of an interpreter")

    @property
    def runs_mendel(self) -> bool:
        return tuple(int(part) for part in self.python.split(".")) >= OLDEST_PYTHON


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePin:
    """
    A base image for one platform, pinned by digest.

    Attributes:
        reference: The value of ``build.base_image``.
        digest: The digest of the manifest for this platform.
        python: The minor version of the image's Python, such as ``3.11``.
        interpreter: The absolute path of the Python interpreter in the image.
        glibc: The version of the image's C library, such as ``2.36``; it decides which wheels can run.
        runtime: The other Python of the image, which runs Mendel because *python* is too old; None if *python* runs
            Mendel, or if the image has no other Python.
    """

    reference: str
    digest: Digest
    python: str
    interpreter: str
    glibc: str
    runtime: Interpreter | None = None

    def __post_init__(self) -> None:
        _require(self.reference and not _CONTROL.search(self.reference), self.reference, "the name of a base image")
        Interpreter(python=self.python, path=self.interpreter)
        _require(_GLIBC.fullmatch(self.glibc), self.glibc, "a version of glibc")

    @property
    def for_runtime(self) -> BasePin:
        """
        Give the base image with the Python that runs Mendel as its only Python.

        Raises:
            BuildRefused: The image has no Python that runs Mendel.
        """
        found = self.runtime or Interpreter(python=self.python, path=self.interpreter)
        if not found.runs_mendel:
            oldest = ".".join(map(str, OLDEST_PYTHON))
            reason = f"its only Python is {self.python}, and Mendel needs Python {oldest} or newer"
            raise BuildRefused(
                f"The base image {self.reference} cannot be used for a classifier: {reason}.",
                reasons=(reason,),
                remedy=(
                    f"Use a base image that also has Python {oldest} or newer; 'mendel base --suite bullseye' makes "
                    "such a base image for projects on Python 3.9."
                ),
            )
        return replace(self, python=found.python, interpreter=found.path, runtime=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """
    The base image and wheels for one platform, and the classifiers whose images are made of them.

    Attributes:
        inputs: The digest of the resolver's inputs (base reference, requirement lines, Mendel's own requirements,
            platform); the lock is stale when the project's current inputs have another digest.
        requirements: The resolved requirement lines, sorted.
        wheels: The wheels beside Mendel's own, sorted by name: what Mendel requires; with ``build.isolation: shared``,
            also what the project requires.
        project: The wheels of the project's own environment, sorted by name; None with ``build.isolation: shared``.
    """

    classifiers: tuple[str, ...]
    platform: str
    inputs: Digest
    requirements: tuple[str, ...]
    base: BasePin
    wheels: tuple[WheelPin, ...]
    project: tuple[WheelPin, ...] | None = None

    @property
    def parts(self) -> tuple[tuple[BasePin, tuple[WheelPin, ...]], ...]:
        """The virtual environments, Mendel's first: the base image with the Python of each, and its wheels."""
        of_mendel = (self.base.for_runtime, self.wheels)
        return (of_mendel,) if self.project is None else (of_mendel, (self.base, self.project))

    @property
    def every_wheel(self) -> tuple[WheelPin, ...]:
        """The wheels of all environments, each once."""
        return tuple(dict.fromkeys((*self.wheels, *(self.project or ()))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The content of ``mlserver.lock``: all pins, for every classifier and platform of a project."""

    runtime: RuntimePin
    environments: tuple[Environment, ...]
    compressor: str
    builder: int = BUILDER_FORMAT
    format: int = LOCK_FORMAT

    @property
    def digest(self) -> Digest:
        """SHA-256 of the lock's canonical JSON; a registered version records it as its lock digest."""
        return Digest(f"sha256:{hashlib.sha256(self._document()).hexdigest()}")

    def environment(self, classifier: str, platform: Platform) -> Environment:
        """
        Give the environment of *classifier* on *platform*.

        Raises:
            StaleLock: The lock has no environment for this classifier and platform.
        """
        for environment in self.environments:
            if classifier in environment.classifiers and environment.platform == str(platform):
                return environment
        raise StaleLock(
            f"{LOCK_FILE} has no entry for classifier {classifier} on {platform}.",
            remedy=f"Run: mendel lock --platform {platform}",
        )

    def as_text(self) -> str:
        """Write the content of the lock file: indented JSON with sorted keys and a final newline."""
        return msgspec.json.format(self._document(), indent=2).decode() + "\n"

    def _document(self) -> bytes:
        """Write the lock as JSON without the fields that format 1 lacks, where they are None: digests stay the same."""
        whole = to_builtins(self)
        for environment in whole["environments"]:
            for place, name in ((environment, "project"), (environment["base"], "runtime")):
                if place[name] is None:
                    del place[name]
        return to_json(whole)

    @classmethod
    def parse(cls, text: str | bytes, *, path: str) -> Lock:
        """
        Parse the content of a lock file.

        Raises:
            InvalidProject: The content is not a lock, or has another format number.
        """
        try:
            lock = from_json(text, cls)
        except InvalidValue as error:
            raise InvalidProject(
                f"The file is not a valid lock: {error.message}", path=path, remedy="Run: mendel lock"
            ) from error
        if lock.format not in _READ_FORMATS:
            message = f"The lock has format {lock.format}, but the installed Mendel reads formats up to {LOCK_FORMAT}."
            raise InvalidProject(
                message, path=path, remedy="Run 'mendel lock', or install the Mendel version that wrote the lock."
            )
        return lock


def _require(holds: object, value: object, what: str) -> None:
    if not holds:
        raise InvalidValue(f"{value!r} is not {what}.")


def _is_absolute(path: str) -> bool:
    whole = PurePosixPath(path)
    return whole.is_absolute() and ".." not in whole.parts and not _CONTROL.search(path)
