"""What the images room needs of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from mendel.images.entities import BuiltImage, ImagePlan, ImageRecord
from mendel.images.lockfile import BasePin, Platform, WheelPin
from mendel.images.manifests import Descriptor, Manifest
from mendel.images.tar_archives import Entry
from mendel.values import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where something long stands: what it does, and how far of how much (bytes, as a rule; 0 where nobody knows)."""

    doing: str
    done: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """For callers who do not look."""


class Wheels(Protocol):
    """
    Wheels by content: a project's own directory of them first, then a cache, then the index the machine is set up for.

    Fetching is idempotent and safe between processes: what is named in the cache is whole.
    """

    def path(self, pin: WheelPin) -> Path:
        """
        A local file with exactly the pinned content, checked by its digest.

        Raises:
            WheelNotFound: Nobody has it: it vanished from the index, or the machine is offline.
            DigestMismatch: What has its name has another content.
        """

    def fetch(self, pins: Sequence[WheelPin], *, base: BasePin, platform: Platform, on_progress: OnProgress) -> None:
        """Have all of *pins* at hand, with as few programs as possible; raises as :meth:`path` does."""


class Resolver(Protocol):
    """Chooses wheels for requirements on a platform that need not be this one."""

    def resolve(
        self,
        requirements: Sequence[str],
        *,
        base: BasePin,
        platform: Platform,
        constraints: Sequence[str] = (),
        prefer: Sequence[WheelPin] = (),
    ) -> tuple[WheelPin, ...]:
        """
        The wheels that satisfy *requirements* on the base's Python and C library, sorted by name.

        The same index gives the same answer; nothing is installed and nothing of the asking environment counts.

        Args:
            constraints: Bounds on versions of what may not be required at all.
            prefer: Whose versions to keep, where they still satisfy.

        Raises:
            BuildRefused: No set of wheels satisfies them; the reasons name a distribution that only has sources.
            ProgramFailed: The resolver ended otherwise; carries its log.
        """


class Blobs(Protocol):
    """The blobs of images, by digest, as files whose content never changes."""

    def path(self, digest: Digest) -> Path:
        """
        The file of a blob.

        Raises:
            ImageNotFound: It is not here.
        """

    def read(self, digest: Digest) -> bytes:
        """
        The content of a small blob (a manifest, a configuration), checked.

        Raises:
            ImageNotFound: It is not here.
            DigestMismatch: The disk changed it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBase:
    """
    A base image whose blobs are all on this machine.

    Attributes:
        descriptor: Of its manifest.
        config: The image's configuration, parsed.
        blobs: Holds its manifest, configuration and layers.
    """

    descriptor: Descriptor
    manifest: Manifest
    config: Mapping[str, Any]
    blobs: Blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRoot:
    """
    The root file system of a base image that is being made.

    Attributes:
        entries: Its files; can be read once, while the source that gave them is open.
        created: The time the image carries; a function of the files, not the time of making.
        created_by: The line of the image's history.
        command, environment: What the image runs by default.
        packages: Name and version of each package, sorted.
    """

    platform: Platform
    entries: Iterable[Entry]
    created: datetime
    created_by: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    packages: tuple[tuple[str, str], ...]


class Bases(Protocol):
    """Base images: of a registry (``host/name:tag``), a layout (``oci:DIR``) or an archive (``oci-archive:FILE``)."""

    def pin(self, reference: str, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> BasePin:
        """
        Find the base, and what of its inside decides about wheels.

        Raises:
            ImageNotFound: There is none of that name, or none for the platform.
            BuildRefused: It has no Python, or no C library that wheels are made for.
            RegistryUnavailable, Unauthenticated, Forbidden: The registry.
        """

    def load(self, pin: BasePin, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> LoadedBase:
        """
        Have the pinned base with all its blobs on this machine.

        Raises:
            ImageNotFound: No place has it under its digest any more.
            DigestMismatch: A blob is damaged.
            RegistryUnavailable, Unauthenticated, Forbidden: The registry.
        """


class BuildEngine(Protocol):
    """
    Makes images out of plans.

    A build that fails or is interrupted leaves no image and no name; its half-made files are removed now or by the
    next build. Names are given by :meth:`commit`, after the image was verified.
    """

    name: str

    def build(self, plan: ImagePlan, *, use_cache: bool, on_progress: OnProgress) -> BuiltImage:
        """
        Make the image.

        Raises:
            BuildRefused: A file changed since the plan was made.
            WheelNotFound, ImageNotFound, DigestMismatch: An input that is pinned cannot be had.
            ProgramFailed: An engine of another vendor ended with an error.
        """

    def verify(self, plan: ImagePlan, image: BuiltImage) -> None:
        """
        Unpack the image and import the predictor in it, as its user, with its interpreter.

        Raises:
            ImageNotVerified: It cannot be imported; carries the traceback.
        """

    def commit(self, plan: ImagePlan, image: BuiltImage) -> None:
        """Let every reference of the plan point to the image, all or none; former images stay until removed."""


class ImageStore(Protocol):
    """Images at hand: in a layout of ours, or in an engine."""

    name: str

    def images(self) -> tuple[ImageRecord, ...]:
        """Every named image, newest first; attached documents (SBOM, provenance, signatures) are no images."""

    def remove(self, digest: Digest) -> None:
        """Take away the image with all its names and attachments, and what nothing else needs; absent is fine."""
