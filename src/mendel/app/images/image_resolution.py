"""Finds the container image of a version, in the project's layout or in a registry, and reads its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.client import Document, RegistryClient
from mendel.app.images.bases import open_registries
from mendel.app.images.cache_directories import places_of
from mendel.errors import (
    Conflict,
    Corrupt,
    DigestMismatch,
    ImageNotFound,
    InvalidInput,
    ProjectNotFound,
    RegistryUnavailable,
)
from mendel.images.manifests import INDEXES, REF_NAME, Descriptor, Manifest, digest_of, parse_json
from mendel.images.references import ImageReference, names_host
from mendel.projects import load_project
from mendel.registry import VersionImage
from mendel.values import Digest, VersionRef

_RELEASE = "com.classifier.git_tag"
_ARTIFACT = "com.mendel.model.artifact"
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    An image with the facts from its labels.

    Attributes:
        artifact: Digest of the registered artefact inside; None for an image without a registered version.
        seen: The labels were read; False if only the digest of the image is known.
    """

    image: VersionImage
    artifact: Digest | None = None
    seen: bool = True

    def require_artifact(self, digest: Digest, ref: VersionRef | None = None) -> None:
        """
        Refuse an image that holds another artefact than *digest*.

        Raises:
            Conflict: The image holds another artefact.
        """
        if self.artifact not in {None, digest}:
            raise Conflict(
                (
                    f"The image {self.image.reference} contains the artefact {self.artifact}, not the "
                    f"version's artefact {digest}."
                ),
                remedy=f"Build the image of the version with: mendel build --model {ref or 'NAME@N'}",
            )


def find_image(text: str, *, path: Path | None = None) -> Delivery:
    """
    Find the image that *text* names: ``name:tag``, ``name@sha256:...`` or ``sha256:...``.

    The project's own images are searched first, then the registry that the name begins with. If that registry does not
    answer and *text* holds a digest, the image is known by that digest only, and its release stays unknown.

    Args:
        path: The project, or a directory below it; the current directory by default.

    Raises:
        ImageNotFound: Neither the project nor the registry has the image.
        RegistryUnavailable: The registry does not answer, and *text* holds no digest.
        Unauthenticated, Forbidden: The registry refuses the request.
        InvalidInput: *text* is not a reference.
    """
    name, at, given = text.partition("@")
    digest = Digest(given) if at else Digest(name) if name.startswith("sha256:") else None
    layout = _layout(path)
    local = None if layout is None else _in_layout(layout, text, digest)
    if local is not None:
        return local
    if not names_host(name):
        raise ImageNotFound(
            f"This project has no image {text}.",
            remedy="Build the image with 'mendel build', or give the name of an image in a registry: host/name:tag.",
        )
    try:
        return _in_registry(text)
    except RegistryUnavailable:
        if digest is None:
            raise
        return Delivery(image=VersionImage(reference=text, digest=digest), seen=False)


def _layout(path: Path | None) -> Layout | None:
    try:
        return Layout(places_of(load_project(path or Path.cwd()).root).images)
    except ProjectNotFound:
        if path is not None:
            raise
        return None


def _in_layout(layout: Layout, text: str, digest: Digest | None) -> Delivery | None:
    for entry in layout.named():
        if entry.digest == digest or (digest is None and entry.annotations[REF_NAME] == text):
            return _read(text, entry, layout)
    return None


def _read(text: str, entry: Descriptor, layout: Layout) -> Delivery:
    manifest = entry
    if entry.media_type in INDEXES:
        manifest = _first(layout.read(entry.digest))
    config = layout.manifest(manifest.digest).config
    return _told(text, entry.digest, layout.read(config.digest))


def _in_registry(text: str) -> Delivery:
    reference = ImageReference.parse(text)
    with open_registries() as registries:
        registry = registries.at(reference.host)
        document = registry.document(reference.path, reference.selector)
        config = _manifest(registry, reference.path, document).config
        if config.size > _MAX_CONFIG_BYTES:
            raise Corrupt(
                f"The configuration of the image {text} is too large: {config.size} bytes, at most "
                f"{_MAX_CONFIG_BYTES} allowed."
            )
        with registry.blob(reference.path, config) as pieces:
            content = b"".join(pieces)
    if digest_of(content) != config.digest or reference.digest not in {None, document.digest}:
        raise DigestMismatch(
            f"The content of the image {text} from {reference.host} does not match the image's digest."
        )
    return _told(text, document.digest, content)


def _manifest(registry: RegistryClient, path: str, document: Document) -> Manifest:
    if document.media_type in INDEXES:
        document = registry.document(path, _first(document.content).digest)
    return Manifest.parse(document.content)


def _first(index: bytes) -> Descriptor:
    """The first platform's manifest: all platforms have the same release."""
    for entry in parse_json(index).get("manifests") or ():
        return Descriptor.parse(entry)
    raise InvalidInput("The index of the image lists no platform.")


def _told(text: str, digest: Digest, config: bytes) -> Delivery:
    labels = (parse_json(config).get("config") or {}).get("Labels") or {}
    artifact = labels.get(_ARTIFACT)
    return Delivery(
        image=VersionImage(reference=text, digest=digest, release_tag=labels.get(_RELEASE)),
        artifact=None if artifact is None else Digest(artifact),
    )
