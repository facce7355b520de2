"""An image before and after it is built: what goes in, in which layer, under which names; and what came out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath

from mendel.errors import InvalidValue
from mendel.images.lockfile import Environment, RuntimePin
from mendel.values import Digest

APP = PurePosixPath("/app")
"""Where the project stands in an image."""

VENV = PurePosixPath("/opt/mendel")
"""The environment of an image: ``bin/python`` is a link to the base's interpreter, wheels lie in site-packages."""

DATA = PurePosixPath("/data")
"""The one directory of an image that its user may write: spool and last desired state."""

USER_ID = 10001
"""Owner of :data:`DATA`, and whom an image runs as; everything else belongs to root and is read-only to it."""

MANIFEST = "mendel-manifest.json"
"""The list of every file of the project in the image, with its SHA-256; stands in :data:`APP`."""

_PATH_PART = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """
    Where an image lives, without a tag: ``[registry/][prefix/]repository/classifier``.

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
                    f"{part!r} cannot be a part of an image's name.",
                    remedy="Parts are lower-case letters and digits, joined by single '.', '_' or by '-'.",
                )

    def __str__(self) -> str:
        parts = (self.registry, self.prefix, self.repository, self.classifier)
        return "/".join(part.strip("/") for part in parts if part)

    def tagged(self, tag: str) -> str:
        """The reference ``name:tag``."""
        if not _TAG.fullmatch(tag):
            raise InvalidValue(f"{tag!r} is not a tag of an image.")
        return f"{self}:{tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """
    One file of the project on its way into the image.

    Attributes:
        path: Where it will stand, posix, relative to :data:`APP`.
        source: Where it is read from; it is hashed again while it is packed, and a file that changed meanwhile stops
            the build.
        executable: Its mode in the image is 0755 instead of 0644; nothing else of its mode is kept.
    """

    path: str
    source: Path
    size_bytes: int
    digest: Digest
    executable: bool = False


class Part(StrEnum):
    """The parts of an image, bottom up; editing code rebuilds the last one only."""

    BASE = "base"
    DEPENDENCIES = "dependencies"
    RUNTIME = "runtime"
    ARTIFACTS = "artifacts"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """
    How a container of the image runs; exec form throughout, nothing is expanded by a shell.

    Attributes:
        environment: Variables, on top of the base's; ``PATH`` starts with the environment of the image.
        ports: Exposed TCP ports.
        healthcheck: The command whose exit status says healthy (0) or not (1).
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[int, ...]
    healthcheck: tuple[str, ...]
    working_directory: str = str(APP)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """
    Everything an image is made of: two equal plans give the same bytes.

    Attributes:
        name, tags: Under which references the finished image stands; every tag is the same digest.
        labels: As they stand in the image's configuration.
        created: The commit's date, UTC; every time in the image is this or earlier.
        environment: Base and wheels for this platform, from the lock.
        runtime: Mendel's own wheel.
        artifacts: Files and directories that the configuration names.
        code: The predictor, what it imports of the project, ``mlserver.yaml``, requirements.
        manifest: The bytes of :data:`MANIFEST`; goes with the code.
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
    def references(self) -> tuple[str, ...]:
        """Every reference of the image, ``name:tag``."""
        return tuple(self.name.tagged(tag) for tag in self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """
    One layer of a built image.

    Attributes:
        digest: Of the compressed blob; None where an engine keeps layers unpacked.
        diff_id: Of the uncompressed tar.
        reused: It came out of the cache.
    """

    part: Part
    title: str
    diff_id: Digest
    digest: Digest | None
    size_bytes: int
    unpacked_bytes: int
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """
    An image that a build made, not named yet.

    Attributes:
        digest: Of the manifest; what ``push`` will push.
        image_id: Of the configuration; the same for every compressor.
        reproducible: Built by our own builder from a lock.
    """

    digest: Digest
    image_id: Digest
    layers: tuple[LayerRecord, ...]
    engine: str
    reproducible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image as a layout or an engine lists it; ``references`` are its ``name:tag``, sorted."""

    digest: Digest
    references: tuple[str, ...]
    created: datetime
    size_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
