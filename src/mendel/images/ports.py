"""The ports of the images room: wheels, resolver, base images, build engines and image stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from mendel.images.entities import BuiltImage, ImagePlan, ImageRecord
from mendel.images.lockfile import BasePin, Platform, WheelPin
from mendel.images.manifests import Descriptor, Manifest
from mendel.images.requirements import Hashes
from mendel.images.tar_archives import Entry
from mendel.values import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProgress:
    """The progress of a long task: what it does, and ``done`` of ``total``, usually bytes; ``total`` 0 is unknown."""

    doing: str
    done: int = 0
    total: int = 0


OnProgress = Callable[[TaskProgress], None]


def ignore_progress(_: TaskProgress) -> None:
    """Do nothing: the default for callers that show no progress."""


class Wheels(Protocol):
    """
    Finds wheels by digest: in the project's own directory, then in a cache, then in the index configured for pip.

    The project's directory is only read. Several threads and processes may share one cache: a file in it is always
    complete. An interrupted fetch leaves no incomplete file.
    """

    def path(self, pin: WheelPin) -> Path:
        """
        Give the path of a local file with the pinned content, checked by its digest; nothing is fetched.

        Raises:
            WheelNotFound: Neither directory nor cache has the wheel.
            DigestMismatch: The file is damaged.
        """

    def fetch(self, pins: Sequence[WheelPin], *, base: BasePin, platform: Platform, on_progress: OnProgress) -> None:
        """
        Fetch those of *pins* into the cache that neither directory nor cache has with their size, in one run of pip.

        Idempotent: when no wheel is missing, nothing is asked and *on_progress* is not called. Otherwise the total of
        the progress is the size of what is missing. After an error, the missing wheels may still be missing.

        Raises:
            WheelNotFound: The index has not all of them, or the machine is offline.
            DigestMismatch: The index has a wheel with another digest than the pinned one.
            StoreUnavailable: The cache cannot be written.
        """


class Resolver(Protocol):
    """Chooses wheels that satisfy requirements, for any supported platform."""

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
        Choose wheels that satisfy *requirements* and *own* for the base image's Python and C library, sorted by name.

        Of several versions the newest one is chosen, of several wheels of a version the most specific one. Environment
        markers are evaluated for the base image and the platform. The same index gives the same answer. Nothing is
        installed, and packages installed here do not count. Every pin has the digest and the size of a wheel that was
        read completely.

        Args:
            own: The requirements of Mendel itself; an error names them as such.
            constraints: Bounds on the versions of distributions, which apply only if a distribution is chosen.
            hashes: The hashes of the project's requirements and constraints by line; None for a project without hashes.
                Otherwise every wheel that the project's requirements need, also indirectly, must have a hash, as pip
                demands; wheels that only Mendel's own requirements need must not.
            prefer: Pins whose versions are kept where the requirements allow them and the index still has them.

        Raises:
            BuildRefused: No set of wheels satisfies the requirements; each reason names a distribution without wheels,
                or a requirement in conflict and who requires it, or a distribution whose hash is missing or differs.
            ProgramFailed: The resolver failed in another way, such as an index that does not answer; the error carries
                its log.
        """


class Blobs(Protocol):
    """The blobs of images by digest, stored as files that never change."""

    def path(self, digest: Digest) -> Path:
        """
        Give the path of a blob's file.

        Raises:
            ImageNotFound: The blob is not stored.
        """

    def read(self, digest: Digest) -> bytes:
        """
        Read a small blob (a manifest or a configuration) and check its digest.

        Raises:
            ImageNotFound: The blob is not stored.
            DigestMismatch: The stored file is damaged.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBase:
    """
    A base image whose blobs are all on this machine.

    Attributes:
        descriptor: The descriptor of the image's manifest.
        config: The image's configuration, parsed.
        blobs: The store of the image's manifest, configuration and layers.
    """

    descriptor: Descriptor
    manifest: Manifest
    config: Mapping[str, Any]
    blobs: Blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRoot:
    """
    The root file system of a new base image.

    Attributes:
        entries: The files; an iterable that can be read once, while its source is open.
        created: The creation time in the image's configuration, derived from the files and not from the clock.
        created_by: The line in the image's history.
        command, environment: The image's default command and environment variables.
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
        Find a base image and read the facts that decide which wheels it can run.

        Idempotent; a name that was moved in its registry or layout gives the image that it means now.

        Raises:
            ImageNotFound: No image has this name, or the image does not exist for the platform.
            BuildRefused: The image has no Python, or no C library that wheels are built for.
            RegistryUnavailable, Unauthenticated, Forbidden: The registry does not answer or refuses access.
        """

    def load(self, pin: BasePin, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> LoadedBase:
        """
        Fetch all blobs of the pinned base image to this machine.

        Idempotent: an image that was pinned or loaded before needs neither its registry, its layout nor its archive
        again, whatever its name means now. Several threads and processes may load at once.

        Raises:
            ImageNotFound: No registry, layout or archive has the image with the pinned digest for *platform*.
            DigestMismatch: The manifest or the configuration is damaged.
            RegistryUnavailable, Unauthenticated, Forbidden: The registry does not answer or refuses access.
        """


class BuildEngine(Protocol):
    """
    Builds images from plans.

    A build that fails or is interrupted leaves no image and no name; its temporary files are removed at once or by the
    next build. :meth:`commit` gives the image its names after :meth:`verify` succeeded. Building and committing the
    same plan again is allowed. One engine builds one image at a time; several processes may build at once.
    """

    name: str

    def build(self, plan: ImagePlan, *, use_cache: bool, on_progress: OnProgress) -> BuiltImage:
        """
        Build the image of *plan*, unnamed. Where the engine is reproducible, equal plans give equal digests.

        Args:
            use_cache: Take layers that were made before from equal inputs; False makes every layer of the plan anew.

        Raises:
            BuildRefused: A file changed after the plan was made; files of cached layers are not read.
            WheelNotFound, ImageNotFound, DigestMismatch: A pinned input is missing or damaged.
            ProgramFailed: The external engine (docker, podman, buildah) ended with an error.
        """

    def verify(self, plan: ImagePlan, image: BuiltImage) -> None:
        """
        Load the predictor inside the image as a server does, as the image's user.

        Raises:
            ImageNotVerified: The predictor cannot be loaded; the error carries the traceback.
        """

    def commit(self, plan: ImagePlan, image: BuiltImage) -> None:
        """
        Point all references of the plan to the image, all or none; images that had these names are kept.

        Raises:
            ImageNotFound: The image does not exist any more.
        """


class ImageStore(Protocol):
    """The images on this machine, in Mendel's own layout or in a container engine."""

    name: str

    def images(self) -> tuple[ImageRecord, ...]:
        """
        List every named image once, newest first, with sorted names; a name belongs to the image that received it last.
        Attached SBOMs, provenance and signatures are not listed.
        """

    def remove(self, digest: Digest) -> None:
        """
        Remove an image with its names, its attachments and its unshared blobs; an unknown digest is no error.

        Raises:
            Conflict: A container needs the image.
        """
