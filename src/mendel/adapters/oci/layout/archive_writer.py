"""An image as one file that ``docker load``, ``podman load`` and readers of OCI archives all understand."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from mendel.adapters.oci.layers.tar import Entry, File, write_tar
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.layout.manifests import INDEX, MANIFEST, REF_NAME, Descriptor, canonical_json
from mendel.adapters.oci.registry.references import names_host
from mendel.errors import DigestMismatch, StoreUnavailable
from mendel.values import Digest
from mendel.values.directory_trees import file_digest

_PIECE_BYTES = 1 << 20
_CONTAINERD_NAME = "io.containerd.image.name"


def write_archive(
    layout: Layout,
    digest: Digest,
    references: Sequence[str],
    into: Path,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """
    Write the image with its names to the file *into*, which appears when it is whole; the same image, the same bytes.

    It is an OCI layout and, by its ``manifest.json``, an archive of docker's, over the same blobs.

    Raises:
        ImageNotFound: The image, or a blob of it, is not in *layout*.
        DigestMismatch: The disk changed one.
        StoreUnavailable: *into* cannot be written there; nothing of it is left.
    """
    entries = tuple(_entries(layout, digest, references, on_bytes))
    try:
        if into.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        descriptor, name = tempfile.mkstemp(prefix=".unfinished-", dir=into.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in write_tar(entries):
                    file.write(piece)
            Path(name).chmod(0o644)
            Path(name).replace(into)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{into} cannot be written: {error.strerror or error}.") from error


def _entries(
    layout: Layout, digest: Digest, references: Sequence[str], on_bytes: Callable[[int], None]
) -> Iterator[Entry]:
    manifest = layout.manifest(digest)
    blobs = (manifest.config, *manifest.layers)
    size = layout.path(digest).stat().st_size
    names = [{REF_NAME: name, _CONTAINERD_NAME: _for_containerd(name)} for name in sorted(references)]
    named = [
        Descriptor(media_type=MANIFEST, digest=digest, size=size, annotations=annotations).as_tree()
        for annotations in names or [{}]
    ]
    yield File.of("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield File.of("index.json", canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": named}))
    saved = {
        "Config": _path(manifest.config.digest),
        "RepoTags": sorted(references),
        "Layers": [_path(layer.digest) for layer in manifest.layers],
    }
    yield File.of("manifest.json", canonical_json([saved]))
    for blob in sorted({digest, *(blob.digest for blob in blobs)}):
        path = layout.path(blob)
        yield File(path=_path(blob), size=path.stat().st_size, content=partial(_read, path, blob, on_bytes))


def _read(path: Path, digest: Digest, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    if file_digest(path) != digest:
        raise DigestMismatch(f"The blob {digest} is damaged.", remedy="Remove the image and build again.")
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
            on_bytes(len(piece))


def _path(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _for_containerd(reference: str) -> str:
    """The whole name with its registry, as containerd keeps images: without one it is docker's own."""
    if names_host(reference):
        return reference
    return f"docker.io/{reference}" if "/" in reference else f"docker.io/library/{reference}"
