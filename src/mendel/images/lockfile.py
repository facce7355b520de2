"""``mlserver.lock``: what an image is built from, by content; committed beside ``mlserver.yaml``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

import msgspec

from mendel.errors import InvalidProject, InvalidValue, StaleLock
from mendel.values import Digest, from_json, to_json

LOCK_FILE = "mlserver.lock"
WHEELS_DIRECTORY = "mlserver.wheels"
"""Wheels that no index has, committed beside the lock; the builder looks here first."""

LOCK_FORMAT = 1
BUILDER_FORMAT = 2
"""Grows whenever equal inputs would give other bytes than before."""

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
        """The processor as wheels name it."""
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.architecture]

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``linux/amd64`` or ``linux/arm64``."""
        if text not in _PLATFORMS:
            raise InvalidValue(
                f"{text!r} is not a platform images are built for.", remedy="Use linux/amd64 or linux/arm64."
            )
        return cls(*text.split("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPin:
    """
    One wheel, by content; where it is fetched from is the machine's affair and stands nowhere.

    Its texts become file names and lines that pip reads, and a lock comes from whoever commits: none leads elsewhere.
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
    Mendel's own wheel.

    Attributes:
        commit: The full commit it was made from, None where unknown.
        url: Of the repository of that commit, without credentials.
        how: How it was found: ``installed``, ``checkout``, ``vcs``.
        dirty: The checkout had changes; the commit alone does not say what the wheel holds.
    """

    version: str
    commit: str | None
    url: str | None
    how: str
    wheel: WheelPin
    dirty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePin:
    """
    A base image for one platform.

    Attributes:
        reference: As ``build.base_image`` has it.
        digest: Of the manifest of this platform.
        python: Minor version of its interpreter, ``3.11``.
        interpreter: Its absolute path in the image.
        glibc: Version of its C library, ``2.36``; decides which wheels fit.
    """

    reference: str
    digest: Digest
    python: str
    interpreter: str
    glibc: str

    def __post_init__(self) -> None:
        _require(self.reference and not _CONTROL.search(self.reference), self.reference, "the reference of an image")
        _require(_PYTHON.fullmatch(self.python), self.python, "a minor version of Python 3")
        _require(_is_absolute(self.interpreter), self.interpreter, "the absolute path of an interpreter")
        _require(_GLIBC.fullmatch(self.glibc), self.glibc, "a version of glibc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """
    Base and wheels of the classifiers that share them, on one platform.

    Attributes:
        inputs: Digest of what was resolved (base reference, requirement lines, Mendel's own requirements, platform): a
            project that asks for something else now has a stale lock.
        requirements: The requirement lines that were resolved, sorted.
        wheels: Sorted by name; without Mendel's own.
    """

    classifiers: tuple[str, ...]
    platform: str
    inputs: Digest
    requirements: tuple[str, ...]
    base: BasePin
    wheels: tuple[WheelPin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything pinned, for every classifier and platform of a project."""

    runtime: RuntimePin
    environments: tuple[Environment, ...]
    compressor: str
    builder: int = BUILDER_FORMAT
    format: int = LOCK_FORMAT

    @property
    def digest(self) -> Digest:
        """SHA-256 of its canonical JSON: what a registered version records as its lock digest."""
        return Digest(f"sha256:{hashlib.sha256(to_json(self)).hexdigest()}")

    def environment(self, classifier: str, platform: Platform) -> Environment:
        """
        The environment of *classifier* on *platform*.

        Raises:
            StaleLock: The lock has none.
        """
        for environment in self.environments:
            if classifier in environment.classifiers and environment.platform == str(platform):
                return environment
        raise StaleLock(
            f"{LOCK_FILE} has nothing for {classifier} on {platform}.",
            remedy=f"Run: mendel lock --platform {platform}",
        )

    def as_text(self) -> str:
        """The file's content: indented JSON with sorted keys and a final newline."""
        return msgspec.json.format(to_json(self), indent=2).decode() + "\n"

    @classmethod
    def parse(cls, text: str | bytes, *, path: str) -> Lock:
        """
        Read the file's content.

        Raises:
            InvalidProject: It is not a lock, or one of another format.
        """
        try:
            lock = from_json(text, cls)
        except InvalidValue as error:
            raise InvalidProject(
                f"This is not a lock: {error.message}", path=path, remedy="Run: mendel lock"
            ) from error
        if lock.format != LOCK_FORMAT:
            message = f"The lock has format {lock.format}; this Mendel reads {LOCK_FORMAT}."
            raise InvalidProject(message, path=path, remedy="Run: mendel lock, or use the Mendel that made it.")
        return lock


def _require(holds: object, value: object, what: str) -> None:
    if not holds:
        raise InvalidValue(f"{value!r} is not {what}.")


def _is_absolute(path: str) -> bool:
    whole = PurePosixPath(path)
    return whole.is_absolute() and ".." not in whole.parts and not _CONTROL.search(path)
