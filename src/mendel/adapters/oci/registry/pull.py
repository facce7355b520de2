"""Pull images from registries into an image layout."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.client import Document, RegistryClient, RegistryClients
from mendel.adapters.oci.registry.parallel_transfers import TransferProgress, run_parallel
from mendel.errors import ImageNotFound
from mendel.images import OnProgress, Platform
from mendel.images.manifests import INDEXES, MANIFESTS, Descriptor, Manifest, parse_json
from mendel.images.references import ImageReference


class RegistryImages:
    """
    Pulls images; blobs that the layout already has are not downloaded.

    Args:
        open_registries: Opens registry clients for one pull; no connection stays open between pulls.
    """

    def __init__(self, open_registries: Callable[[], AbstractContextManager[RegistryClients]]) -> None:
        self._open = open_registries

    def pull(
        self, reference: ImageReference, platform: Platform, into: Layout, *, on_progress: OnProgress
    ) -> Descriptor:
        """
        Pull the image into *into* without naming it; gives the descriptor of the manifest for *platform*.

        Raises:
            ImageNotFound: The registry has no image of that name for the platform.
            DigestMismatch: A content does not match its digest.
            RegistryUnavailable, Unauthenticated, Forbidden: The registry refused or did not answer.
        """
        with self._open() as registries:
            return pull(registries, reference, platform, into, on_progress=on_progress)


def pull(
    registries: RegistryClients, reference: ImageReference, platform: Platform, into: Layout, *, on_progress: OnProgress
) -> Descriptor:
    """Pull the image into *into*; see :meth:`RegistryImages.pull`."""
    registry = registries.at(reference.host)
    document = _for_platform(registry, reference, platform, into)
    manifest = Manifest.parse(document.content)
    blobs = tuple({blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values())
    progress = TransferProgress(f"pulling {reference}", sum(blob.size for blob in blobs), on_progress)

    def fetch(blob: Descriptor) -> None:
        if not into.has(blob.digest):
            with registry.blob(reference.path, blob) as pieces:
                into.stream_in(pieces, blob, partial(progress.add, blob.digest))
        progress.reached(blob.digest, blob.size)

    run_parallel(blobs, fetch, registries.retry_limits)
    into.put(document.content)  # last: a layout that has the manifest has all its blobs
    return document.descriptor


def _for_platform(registry: RegistryClient, reference: ImageReference, platform: Platform, into: Layout) -> Document:
    document = registry.document(reference.path, reference.selector)
    if document.media_type not in INDEXES:
        return document
    into.put(document.content)
    for entry in parse_json(document.content).get("manifests") or ():
        child = Descriptor.parse(entry)
        if child.media_type in MANIFESTS and child.platform == str(platform):
            return registry.document(reference.path, child.digest)
    raise ImageNotFound(
        f"{reference} has no image for the platform {platform}.", remedy=f"Choose an image that supports {platform}."
    )
