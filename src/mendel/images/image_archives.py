"""Write an image as one file that ``docker load``, ``podman load`` and OCI tools can read."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mendel.errors import Corrupt, DigestMismatch, StoreUnavailable
from mendel.images.manifests import INDEX, REF_NAME, Descriptor, Manifest, canonical_json, parse_json
from mendel.images.ports import Blobs
from mendel.images.references import names_host
from mendel.images.tar_archives import Entry, File, write_tar
from mendel.values import Digest
from mendel.values.atomic_files import replacing
from mendel.values.directory_trees import file_digest

_PIECE_BYTES = 1 << 20
_MAX_INDEX_BYTES = 1 << 20
_CONTAINERD_NAME = "io.containerd.image.name"


def write_archive(blobs: Blobs, digest: Digest, references: Sequence[str], into: Path) -> None:
    """
    Write the image with its names to the file *into*, atomically; equal images give equal bytes.

    The file is an OCI layout and also, through ``manifest.json``, a docker archive of the same blobs.

    Raises:
        ImageNotFound: The image, or a blob of it, is not in *blobs*.
        DigestMismatch: A blob is damaged.
        StoreUnavailable: *into* cannot be written; no incomplete file is left.
    """
    entries = tuple(_entries(blobs, digest, references))
    if into.is_dir():
        raise StoreUnavailable(f"The archive {into} cannot be written: the path is a directory.")
    with replacing(into, parents=False, flush=False) as draft, draft.open("wb") as file:
        for piece in write_tar(entries):
            file.write(piece)


def archive_references(archive: Path) -> tuple[str, ...]:
    """
    Give the names of the image in *archive*, sorted.

    Raises:
        Corrupt: The file is not an image archive, or has several images.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            index = tar.extractfile("index.json")
            content = b"" if index is None else index.read(_MAX_INDEX_BYTES)
    except (tarfile.TarError, KeyError, OSError) as error:
        raise Corrupt(
            f"{archive} is not an archive of an image: {error}.",
            remedy="Write the archive again with: mendel build --output",
        ) from error
    entries = [Descriptor.parse(entry) for entry in parse_json(content).get("manifests") or ()]
    named = [entry for entry in entries if REF_NAME in entry.annotations]
    if len({entry.digest for entry in named}) != 1:
        raise Corrupt(
            f"The archive {archive} names {len(named)} images; exactly 1 is allowed.",
            remedy="Write a separate archive for each image.",
        )
    return tuple(sorted(entry.annotations[REF_NAME] for entry in named))


def _entries(blobs: Blobs, digest: Digest, references: Sequence[str]) -> Iterator[Entry]:
    manifest = Manifest.parse(blobs.read(digest))
    parts = (manifest.config, *manifest.layers)
    size = blobs.path(digest).stat().st_size
    names = [{REF_NAME: name, _CONTAINERD_NAME: _for_containerd(name)} for name in sorted(references)]
    named = [
        Descriptor(media_type=manifest.media_type, digest=digest, size=size, annotations=annotations).as_tree()
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
    for blob in sorted({digest, *(part.digest for part in parts)}):
        path = blobs.path(blob)
        yield File(path=_path(blob), size=path.stat().st_size, content=partial(_read, path, blob))


def _read(path: Path, digest: Digest) -> Iterator[bytes]:
    if file_digest(path) != digest:
        raise DigestMismatch(
            f"The image blob {digest} does not have the content of its digest.",
            remedy="Remove the image with 'mendel clean', and build the image again.",
        )
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _path(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _for_containerd(reference: str) -> str:
    """Give the full name with registry, as containerd stores it; a name without a registry gets ``docker.io``."""
    if names_host(reference):
        return reference
    return f"docker.io/{reference}" if "/" in reference else f"docker.io/library/{reference}"
