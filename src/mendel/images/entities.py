"""The values that describe an image: its name, files, layers and run settings before the build, its digest after."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mendel.errors import InvalidValue
from mendel.values import Digest

if TYPE_CHECKING:
    from mendel.images.lockfile import BasePin, Environment, RuntimePin, WheelPin

APP = PurePosixPath("/app")
"""The directory of the project in an image."""

VENV = PurePosixPath("/opt/mendel")
"""The virtual environment of Mendel in an image; ``bin/python`` is a link to the base image's interpreter."""

PROJECT_VENV = PurePosixPath("/opt/project")
"""The virtual environment of the project in an image with ``build.isolation: process``."""

DATA = PurePosixPath("/data")
"""The only directory of an image that its user may write: it holds the spool and the last desired state."""

USER_ID = 10001
"""The user that an image runs as; it owns :data:`DATA` and may only read everything else."""

MANIFEST = "mendel-manifest.json"
"""The file in :data:`APP` that lists every project file in the image with its SHA-256."""

_PATH_PART = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """
    The name of an image without a tag: ``[registry/][prefix/]repository/classifier``.

    >>> str(ImageName(repository="risk", classifier="credit", registry="ghcr.io/acme"))
    'ghcr.io/acme/risk/credit'
    """

    repository: str
    classifier: str
    registry: str | None = None
    prefix: str | None = None

    def __post_init__(self) -> None:
        for part in (*(self.prefix or "").strip("/").split("/"), self.repository, self.classifier):
            if part and not _PATH_PART.fullmatch(part):
                raise InvalidValue(
                    f"{part!r} is not allowed as a part of an image name.",
                    remedy="Use lower-case letters and digits, joined by '.', '_', '__' or '-'.",
                )

    def __str__(self) -> str:
        parts = (self.registry, self.prefix, self.repository, self.classifier)
        return "/".join(part.strip("/") for part in parts if part)

    def tagged(self, tag: str) -> str:
        if not _TAG.fullmatch(tag):
            raise InvalidValue(
                f"{tag!r} is not a valid image tag.", remedy="Use at most 128 letters, digits and _ . - characters."
            )
        return f"{self}:{tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """
    A project file to put into an image.

    Attributes:
        path: The POSIX path in the image, relative to :data:`APP`.
        source: The file on this machine. The build hashes it again while packing, and stops if it has changed.
        executable: True gives mode 0755, False mode 0644; the other mode bits are not kept.
    """

    path: str
    source: Path
    size_bytes: int
    digest: Digest
    executable: bool = False


class ImagePart(StrEnum):
    """The parts of an image from the lowest layer to the highest; a change of code rebuilds only the last part."""

    BASE = "base"
    DEPENDENCIES = "dependencies"
    RUNTIME = "runtime"
    PROJECT = "project"
    ARTIFACTS = "artifacts"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """
    How a container of the image runs. Commands are lists of words; no shell interprets them.

    Attributes:
        environment: Variables added to the base image's, besides ``PATH``.
        ports: Exposed TCP ports.
        healthcheck: The command whose exit status is 0 when the server is healthy and 1 otherwise.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[int, ...]
    healthcheck: tuple[str, ...]
    working_directory: str = str(APP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv:
    """
    A virtual environment in an image.

    Attributes:
        base: The base image with the Python of this environment.
        wheels: The wheels to unpack, Mendel's own last.
    """

    directory: PurePosixPath
    base: BasePin
    wheels: tuple[WheelPin, ...]

    @property
    def python(self) -> str:
        """The path of the interpreter."""
        return f"{self.directory}/bin/python"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """
    Everything an image is made of; equal plans give equal bytes.

    Attributes:
        name, tags: The references of the finished image; every tag names the same digest.
        labels: The labels in the image's configuration.
        created: The commit's date, UTC; no timestamp in the image is later.
        environment: The base image and the wheels of one or two virtual environments for one platform, from the lock.
        runtime: Mendel's own wheel.
        artifacts: The data files that the configuration names.
        code: The predictor, the project modules that it imports, ``mlserver.yaml``, requirements and lock.
        manifest: The content of the file :data:`MANIFEST`, which is in the code layer.
    """

    classifier: str
    name: ImageName
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    created: datetime
    environment: Environment
    runtime: RuntimePin
    artifacts: tuple[SourceFile, ...]
    code: tuple[SourceFile, ...]
    manifest: bytes
    run: RunSettings

    @property
    def venvs(self) -> tuple[Venv, ...]:
        """The virtual environments, Mendel's first."""
        (base, wheels), *project = self.environment.parts
        own = Venv(directory=VENV, base=base, wheels=(*wheels, self.runtime.wheel))
        return (own, *(Venv(directory=PROJECT_VENV, base=base, wheels=wheels) for base, wheels in project))

    @property
    def path(self) -> str:
        """The beginning of the variable ``PATH``: the programs of the virtual environments, Mendel's first."""
        return ":".join(f"{venv.directory}/bin" for venv in self.venvs)

    @property
    def references(self) -> tuple[str, ...]:
        """The references ``name:tag`` of the image, one per tag."""
        return tuple(self.name.tagged(tag) for tag in self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """
    A layer of a built image.

    Attributes:
        digest: The digest of the compressed blob; None when an engine keeps layers unpacked.
        diff_id: The digest of the uncompressed tar.
        reused: True when the layer came from the cache.
    """

    part: ImagePart
    title: str
    diff_id: Digest
    digest: Digest | None
    size_bytes: int
    unpacked_bytes: int
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """
    A built image before it gets its names.

    Attributes:
        digest: The digest of the manifest, which ``push`` pushes.
        image_id: The digest of the configuration, which does not depend on the compressor.
        reproducible: True when Mendel's own builder built the image from a lock.
    """

    digest: Digest
    image_id: Digest
    layers: tuple[LayerRecord, ...]
    engine: str
    reproducible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image in the list of a layout or an engine; ``references`` are its ``name:tag``, sorted."""

    digest: Digest
    references: tuple[str, ...]
    created: datetime
    size_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
