"""
Read image archives: the tar of an image layout (``skopeo copy ... oci-archive:``) or the output of ``docker save``.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import Corrupt, ImageNotFound, TooLarge
from mendel.images.manifests import CONFIG, LAYER, MANIFEST, Descriptor, Manifest, digest_of
from mendel.values import Digest

_CHUNK_BYTES = 1 << 20
_MAX_DOCUMENT_BYTES = 16 << 20
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_TAR = "application/vnd.oci.image.layer.v1.tar"
_MOST_LINKS = 8


@contextmanager
def open_archive(path: Path, *, scratch: Path) -> Iterator[Layout]:
    """
    Open the images of an archive as a layout below *scratch*, which is deleted after the ``with`` block.

    Images of ``docker save`` become OCI manifests with uncompressed layers, so equal archives give equal digests.

    Raises:
        ImageNotFound: The archive contains no image.
        Corrupt: The archive is not a tar, or is inconsistent.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=scratch) as directory:
        layout = Layout(Path(directory))
        try:
            with tarfile.open(path) as archive:
                _read(archive, layout, path)
        except (tarfile.TarError, EOFError) as error:
            raise Corrupt(
                f"The image archive {path} is not a tar file: {error}.", remedy="Write the archive again."
            ) from error
        yield layout


def _read(archive: tarfile.TarFile, layout: Layout, path: Path) -> None:
    members = {str(PurePosixPath(member.name)): member for member in archive}
    if "index.json" in members and "oci-layout" in members:
        for name, member in members.items():
            if (blob := _BLOB.fullmatch(name)) and member.isreg():
                _copy(archive, members, name, layout, expected=Digest(f"sha256:{blob[1]}"))
        (layout.directory / "index.json").write_bytes(_document(archive, members, "index.json"))
    elif "manifest.json" in members:
        for image in _saved(_document(archive, members, "manifest.json")):
            _convert(archive, members, image, layout)
    else:
        raise ImageNotFound(
            f"The archive {path} is neither an OCI image archive nor an archive of 'docker save'.",
            remedy="Make the archive with 'skopeo copy SOURCE oci-archive:FILE' or 'docker save -o FILE IMAGE'.",
        )


def _saved(content: bytes) -> list[dict[str, Any]]:
    try:
        images = json.loads(content)
    except ValueError as error:
        raise Corrupt(f"manifest.json in the image archive is not JSON: {error}.") from error
    if not isinstance(images, list) or not all(
        isinstance(image, dict) and {"Config", "Layers"} <= image.keys() for image in images
    ):
        raise Corrupt("manifest.json in the image archive does not list images.")
    return images


def _convert(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], image: dict[str, Any], layout: Layout
) -> None:
    config = _document(archive, members, str(image["Config"]))
    layers = tuple(_layer(archive, members, str(name), layout) for name in image["Layers"])
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=layers).as_json()
    layout.put(config)
    layout.put(manifest)
    names = [str(name) for name in image.get("RepoTags") or ()]
    layout.name(names or [digest_of(manifest)], Descriptor.of(manifest, MANIFEST))


def _layer(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, layout: Layout) -> Descriptor:
    digest, size = _copy(archive, members, name, layout)
    with layout.path(digest).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return Descriptor(media_type=LAYER if packed else _TAR, digest=digest, size=size)


def _copy(
    archive: tarfile.TarFile,
    members: dict[str, tarfile.TarInfo],
    name: str,
    layout: Layout,
    *,
    expected: Digest | None = None,
) -> tuple[Digest, int]:
    hashed, size = hashlib.sha256(), 0
    with _open(archive, members, name) as source, layout.writing() as file:
        while chunk := source.read(_CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
            file.write(chunk)
        digest = Digest(f"sha256:{hashed.hexdigest()}")
        if expected not in {None, digest}:
            raise Corrupt(
                f"The blob {expected} in the image archive does not have the content of its digest.",
                remedy="Write the archive again.",
            )
        layout.keep(file, digest)
    return digest, size


def _document(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    with _open(archive, members, name) as file:
        content = file.read(_MAX_DOCUMENT_BYTES + 1)
    if len(content) > _MAX_DOCUMENT_BYTES:
        raise TooLarge(f"{name} in the image archive is larger than {_MAX_DOCUMENT_BYTES >> 20} MiB.")
    return content


def _open(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    """Open a file of the archive; links are followed, because ``docker save`` stores equal layers once."""
    place = name
    for _ in range(_MOST_LINKS):
        member = members.get(place)
        if member is None:
            break
        if member.isreg():
            file = archive.extractfile(member)
            if file is not None:
                return file
        target = member.linkname if member.islnk() else str(PurePosixPath(place).parent / member.linkname)
        place = _normal(target)
    raise Corrupt(
        f"The image archive refers to {name}, but does not contain this file.", remedy="Write the archive again."
    )


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)
