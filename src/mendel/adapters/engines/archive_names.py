"""What an archive of an image says about itself."""

from __future__ import annotations

import tarfile
from pathlib import Path

from mendel.adapters.oci.layout.manifests import REF_NAME, Descriptor, parse_json
from mendel.errors import Corrupt

_MAX_INDEX_BYTES = 1 << 20


def names_in(archive: Path) -> tuple[str, ...]:
    """
    The references by which *archive* names its one image, sorted.

    Raises:
        Corrupt: It is no archive of an image, or one of several.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            index = tar.extractfile("index.json")
            content = b"" if index is None else index.read(_MAX_INDEX_BYTES)
    except (tarfile.TarError, KeyError, OSError) as error:
        raise Corrupt(f"{archive} is not an archive of an image: {error}.", remedy="Build it again.") from error
    entries = [Descriptor.parse(entry) for entry in parse_json(content).get("manifests") or ()]
    named = [entry for entry in entries if REF_NAME in entry.annotations]
    if len({entry.digest for entry in named}) != 1:
        raise Corrupt(f"{archive} names {len(named)} images, not one.", remedy="Write an archive for each image.")
    return tuple(sorted(entry.annotations[REF_NAME] for entry in named))
