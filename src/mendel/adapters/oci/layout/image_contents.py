"""Read the contents of an image in a layout from the image's own documents."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from typing import Any

from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import Corrupt
from mendel.images import APP, MANIFEST, ImageContents, ImagePart, LayerRecord
from mendel.images.manifests import Descriptor, parse_json
from mendel.values import Digest

_STEP = re.compile(r"mendel (?P<part>[a-z]+): (?P<title>.*)", re.DOTALL)
_MAX_MANIFEST_BYTES = 64 << 20


def read_contents(layout: Layout, digest: Digest) -> ImageContents:
    """
    Read the image's layers with their parts and titles, the configuration, and the list of project files.

    Raises:
        ImageNotFound, DigestMismatch: A document is missing or damaged.
        Corrupt: Manifest and configuration list different layers.
    """
    manifest = layout.manifest(digest)
    config = parse_json(layout.read(manifest.config.digest))
    diff_ids = [Digest(text) for text in (config.get("rootfs") or {}).get("diff_ids") or ()]
    steps = [entry for entry in config.get("history") or () if not entry.get("empty_layer")]
    if not len(diff_ids) == len(manifest.layers) == len(steps):
        raise Corrupt(f"The manifest and the configuration of the image {digest} list different numbers of layers.")
    layers = tuple(
        _record(layer, diff_id, step) for layer, diff_id, step in zip(manifest.layers, diff_ids, steps, strict=True)
    )
    own = [layer for layer, record in zip(manifest.layers, layers, strict=True) if record.part is ImagePart.CODE]
    return ImageContents(layers=layers, config=config, manifest=_manifest(layout, own[-1]) if own else None)


def _record(layer: Descriptor, diff_id: Digest, step: Mapping[str, Any]) -> LayerRecord:
    found = _STEP.fullmatch(str(step.get("created_by", "")))
    known = found is not None and found["part"] in set(ImagePart)
    return LayerRecord(
        part=ImagePart(found["part"]) if found is not None and known else ImagePart.BASE,
        title=found["title"] if found is not None and known else "base",
        diff_id=diff_id,
        digest=layer.digest,
        size_bytes=layer.size,
        unpacked_bytes=0,
    )


def _manifest(layout: Layout, layer: Descriptor) -> bytes | None:
    """Extract the list of project files from the code layer; None if the layer has no such list."""
    try:
        with (
            gzip.open(layout.path(layer.digest)) as packed,
            tarfile.open(fileobj=io.BufferedReader(packed), mode="r|") as tar,
        ):
            for entry in tar:
                if entry.name == f"{APP}/{MANIFEST}".lstrip("/"):
                    content = tar.extractfile(entry)
                    return None if content is None else content.read(_MAX_MANIFEST_BYTES)
    except (tarfile.TarError, OSError) as error:
        raise Corrupt(f"The code layer {layer.digest} of the image cannot be read: {error}.") from error
    return None
