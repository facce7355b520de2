"""Base images in memory; blobs are files in a directory, since build engines read files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mendel.errors import BuildRefused, DigestMismatch, ImageNotFound
from mendel.images import BasePin, Bases, Blobs, Interpreter, LoadedBase, OnProgress, Platform, ignore_progress
from mendel.images.manifests import CONFIG, MANIFEST, Descriptor, Manifest, canonical_json, digest_of, parse_json
from mendel.values import Digest
from mendel.values.atomic_files import write_atomically

_TAR = "application/vnd.oci.image.layer.v1.tar"


class MemoryBlobs(Blobs):
    """Implements :class:`mendel.images.Blobs` with files in one directory, named by their digests."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        write_atomically(self._directory / digest.hex, content)
        return digest

    def path(self, digest: Digest) -> Path:
        path = self._directory / digest.hex
        if not path.is_file():
            raise ImageNotFound(f"No blob has the digest {digest}.")
        return path

    def read(self, digest: Digest) -> bytes:
        content = self.path(digest).read_bytes()
        if digest_of(content) != digest:
            raise DigestMismatch(f"The blob {digest} does not have the content of its digest.")
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    descriptor: Descriptor
    python: str | None
    interpreter: str
    glibc: str | None
    runtime: Interpreter | None


class MemoryBases(Bases):
    """
    Implements :class:`mendel.images.Bases`; base images are added by reference and platform.

    Args:
        directory: The directory of the blobs.
    """

    def __init__(self, directory: Path) -> None:
        self._blobs = MemoryBlobs(directory)
        self._named: dict[tuple[str, Platform], _Base] = {}
        self._images: dict[tuple[Digest, Platform], Descriptor] = {}

    def add(
        self,
        reference: str,
        platform: Platform,
        layers: Sequence[bytes] = (),
        *,
        python: str | None = "3.11",
        glibc: str | None = "2.36",
        runtime: Interpreter | None = None,
    ) -> Digest:
        """
        Add a base image named *reference* with these uncompressed tars as layers; gives the manifest's digest.

        Args:
            python: The minor version of the Python in ``/usr/bin``; None for a base without Python.
            glibc: The version of the GNU C library; None for a base image without the GNU C library.
            runtime: The other Python, which runs Mendel when *python* is too old.
        """
        digests = [self._blobs.put(layer) for layer in layers]
        config = canonical_json(
            {
                "architecture": platform.architecture,
                "os": platform.os,
                "config": {"Env": ["PATH=/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": digests},
                "history": [{"created_by": reference} for _ in digests],
            }
        )
        self._blobs.put(config)
        described = tuple(Descriptor.of(layer, _TAR) for layer in layers)
        manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=described).as_json()
        self._blobs.put(manifest)
        descriptor = Descriptor.of(manifest, MANIFEST)
        self._named[reference, platform] = _Base(
            descriptor=descriptor,
            python=python,
            interpreter=f"/usr/bin/python{python}",
            glibc=glibc,
            runtime=runtime,
        )
        return descriptor.digest

    def remove(self, reference: str, platform: Platform) -> None:
        """Remove the name; a base that was pinned before can still be loaded."""
        self._named.pop((reference, platform), None)

    def pin(self, reference: str, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> BasePin:  # noqa: ARG002 - nothing takes long
        found = self._named.get((reference, platform))
        if found is None:
            raise ImageNotFound(f"No base image has the name {reference} for {platform}.")
        if found.python is None or found.glibc is None:
            reason = "it has no Python" if found.python is None else "it has no GNU C library (libc.so.6)"
            raise BuildRefused(f"The base image cannot be used for a classifier: {reason}.", reasons=(reason,))
        self._images[found.descriptor.digest, platform] = found.descriptor
        return BasePin(
            reference=reference,
            digest=found.descriptor.digest,
            python=found.python,
            interpreter=found.interpreter,
            glibc=found.glibc,
            runtime=found.runtime,
        )

    def load(self, pin: BasePin, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> LoadedBase:  # noqa: ARG002 - nothing takes long
        """Gives the image with the pinned digest even if the name now belongs to another image."""
        known = {(base.descriptor.digest, place): base.descriptor for (_, place), base in self._named.items()}
        descriptor = (known | self._images).get((pin.digest, platform))
        if descriptor is None:
            raise ImageNotFound(f"The base image {pin.reference} at {pin.digest} was removed or is not for {platform}.")
        manifest = Manifest.parse(self._blobs.read(pin.digest))
        config = parse_json(self._blobs.read(manifest.config.digest))
        return LoadedBase(descriptor=descriptor, manifest=manifest, config=config, blobs=self._blobs)
