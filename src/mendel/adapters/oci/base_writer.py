"""Write base images from root file systems: one reproducible layer for each platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendel.adapters.oci.layers.compression import compress
from mendel.adapters.oci.layout.layout import Layout
from mendel.images import BaseRoot
from mendel.images.manifests import CONFIG, INDEX, LAYER, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.images.tar_archives import write_tar


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBase:
    """The manifest of a written base image for one platform, and the sizes of its only layer."""

    descriptor: Descriptor
    size_bytes: int
    unpacked_bytes: int


def write_base(root: BaseRoot, into: Layout) -> WrittenBase:
    """
    Write layer, configuration and manifest without a name; equal roots give equal bytes.

    Raises:
        StoreUnavailable: The layout cannot be created or written.
        Unsupported: libdeflate is not installed.
    """
    with into.writing() as file:
        layer = compress(write_tar(root.entries), file)
        into.keep(file, layer.digest)
    created = root.created.strftime("%Y-%m-%dT%H:%M:%SZ")
    config = canonical_json(
        {
            "architecture": root.platform.architecture,
            "config": {"Cmd": list(root.command), "Env": [f"{k}={v}" for k, v in root.environment.items()]},
            "created": created,
            "history": [{"created": created, "created_by": root.created_by}],
            "os": root.platform.os,
            "rootfs": {"diff_ids": [layer.diff_id], "type": "layers"},
        }
    )
    into.put(config)
    described = Descriptor(media_type=LAYER, digest=layer.digest, size=layer.size)
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=(described,)).as_json()
    into.put(manifest)
    return WrittenBase(
        descriptor=Descriptor.of(manifest, MANIFEST, platform=str(root.platform)),
        size_bytes=layer.size,
        unpacked_bytes=layer.unpacked_bytes,
    )


def name_base(bases: Sequence[WrittenBase], into: Layout, name: str) -> Descriptor:
    """
    Point *name* at the base of one platform, or at an index of several; the image that had *name* before is removed.
    """
    whole = bases[0].descriptor if len(bases) == 1 else _index([base.descriptor for base in bases], into)
    former = into.find(name)
    into.name([name], whole)
    if former is not None and former.digest != whole.digest:
        into.remove(former.digest)
    return whole


def _index(images: Sequence[Descriptor], into: Layout) -> Descriptor:
    content = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [i.as_tree() for i in images]})
    into.put(content)
    return Descriptor.of(content, INDEX)
