"""Compare the files of an image with the list of project files that the image contains."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import msgspec

from mendel.images.entities import APP, MANIFEST
from mendel.values import Digest


class _ListedFile(msgspec.Struct):
    path: str
    sha256: str


class _FileList(msgspec.Struct):
    files: list[_ListedFile] = []


def check_files(manifest: bytes, found: Mapping[str, Digest | None]) -> tuple[str, ...]:
    """
    Give a sentence for every file that differs from *manifest*, the content of ``mendel-manifest.json``.

    Args:
        found: The digest of every file of the project in the image, by its path in ``/app``; None for a path that is
            not a regular file.
    """
    try:
        listed = {file.path: file.sha256 for file in msgspec.json.decode(manifest, type=_FileList).files}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return (f"{MANIFEST} of the image cannot be read: {error}",)
    read = Digest(f"sha256:{hashlib.sha256(manifest).hexdigest()}")
    hidden = (
        ()
        if found.get(MANIFEST) == read
        else (f"{APP}/{MANIFEST} in a container differs from the file in the code layer",)
    )
    return (*hidden, *_faults(listed, found))


def _faults(listed: Mapping[str, str], found: Mapping[str, Digest | None]) -> Iterator[str]:
    for path, digest in sorted(listed.items()):
        if path not in found:
            yield f"{APP}/{path} is missing, but {MANIFEST} lists it"
        elif found[path] is None:
            yield f"{APP}/{path} is not a regular file"
        elif found[path] != digest:
            yield f"{APP}/{path} is {found[path]}, but {MANIFEST} lists {digest}"
    for path in sorted(found.keys() - listed.keys() - {MANIFEST}):
        yield f"{APP}/{path} is not listed in {MANIFEST}"
