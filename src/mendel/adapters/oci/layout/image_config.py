"""Make the configuration and manifest of an image from the plan and the base image only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mendel.errors import BuildRefused, Corrupt
from mendel.images import USER_ID, ImagePart, ImagePlan, LayerRecord, Platform
from mendel.images.manifests import CONFIG, LAYER, Descriptor, Manifest, canonical_json
from mendel.values import Digest

BASE_DIGEST = "org.opencontainers.image.base.digest"
BASE_NAME = "org.opencontainers.image.base.name"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OF_THIS_MACHINE = ("oci:", "oci-archive:")
_SECOND = 1_000_000_000
_HEALTH = {"Interval": 10 * _SECOND, "Timeout": 5 * _SECOND, "StartPeriod": 60 * _SECOND, "Retries": 3}
_TAR = "application/vnd.oci.image.layer.v1.tar"
_MEDIA_TYPES = {
    **{_TAR + ending: _TAR + ending for ending in ("", "+gzip", "+zstd")},
    "application/vnd.docker.image.rootfs.diff.tar": _TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_TAR}+zstd",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The parts of a base image that an image inherits: layers, and values of the configuration."""

    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    environment: Mapping[str, str]
    history: tuple[Mapping[str, Any], ...]
    variant: str | None

    @classmethod
    def of(cls, manifest: Manifest, config: Mapping[str, Any], platform: Platform) -> Base:
        """
        Read the base image from its manifest and configuration.

        Command, entry point, user, ports, volumes and labels of the base image are ignored.

        Raises:
            BuildRefused: The base image is for another platform, or has layers of an unsupported type.
            Corrupt: Manifest and configuration list different layers.
        """
        found = f"{config.get('os')}/{config.get('architecture')}"
        if found != str(platform):
            raise BuildRefused(
                f"The pinned base image is for the platform {found}, not for {platform}.", remedy="Run: mendel lock"
            )
        diff_ids = tuple(Digest(text) for text in (config.get("rootfs") or {}).get("diff_ids") or ())
        if len(diff_ids) != len(manifest.layers):
            raise Corrupt("The configuration and the manifest of the base image list different numbers of layers.")
        settings = config.get("config") or {}
        history = tuple(config.get("history") or ())
        if sum(not entry.get("empty_layer") for entry in history) != len(diff_ids):
            history = tuple({"created_by": "base"} for _ in diff_ids)
        return cls(
            layers=tuple(_as_oci(layer) for layer in manifest.layers),
            diff_ids=diff_ids,
            environment=dict(text.partition("=")[::2] for text in settings.get("Env") or ()),
            history=history,
            variant=config.get("variant"),
        )

    @property
    def pairs(self) -> tuple[tuple[Descriptor, Digest], ...]:
        """Give each layer with the digest of its uncompressed tar."""
        return tuple(zip(self.layers, self.diff_ids, strict=True))


def image_config(plan: ImagePlan, base: Base, layers: Sequence[LayerRecord], platform: Platform) -> bytes:
    """
    Make the configuration of the image with *layers* above *base*; the digest of the configuration is the image id.
    """
    created = plan.created.isoformat().replace("+00:00", "Z")
    steps = [{"created": created, "created_by": f"mendel {layer.part}: {layer.title}"} for layer in layers]
    tree: dict[str, Any] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "created": created,
        "config": {
            "Cmd": list(plan.run.command),
            "Env": [f"{name}={value}" for name, value in sorted(_environment(plan, base).items())],
            "ExposedPorts": {f"{port}/tcp": {} for port in plan.run.ports},
            "Healthcheck": {"Test": ["CMD", *plan.run.healthcheck], **_HEALTH},
            "Labels": dict(plan.labels),
            "User": f"{USER_ID}:{USER_ID}",
            "WorkingDir": plan.run.working_directory,
        },
        "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, *(layer.diff_id for layer in layers)]},
        "history": [*base.history, *steps],
    }
    if base.variant is not None:
        tree["variant"] = base.variant
    return canonical_json(tree)


def image_manifest(plan: ImagePlan, base: Base, layers: Sequence[LayerRecord], config: bytes) -> bytes:
    """Make the manifest; for a base named by a local path, only the digest is recorded, not the path."""
    pin = plan.environment.base
    annotations = {BASE_DIGEST: str(pin.digest)}
    if not pin.reference.startswith(_OF_THIS_MACHINE):
        annotations[BASE_NAME] = pin.reference
    own = (
        Descriptor(media_type=LAYER, digest=layer.digest, size=layer.size_bytes)
        for layer in layers
        if layer.digest is not None
    )
    return Manifest(
        config=Descriptor.of(config, CONFIG), layers=(*base.layers, *own), annotations=annotations
    ).as_json()


def base_records(base: Base, unpacked: Sequence[int]) -> tuple[LayerRecord, ...]:
    """Give the base image's layers as layer records; *unpacked* are their uncompressed sizes in bytes."""
    return tuple(
        LayerRecord(
            part=ImagePart.BASE,
            title="base",
            diff_id=diff_id,
            digest=layer.digest,
            size_bytes=layer.size,
            unpacked_bytes=size,
            reused=True,
        )
        for (layer, diff_id), size in zip(base.pairs, unpacked, strict=True)
    )


def _environment(plan: ImagePlan, base: Base) -> dict[str, str]:
    path = f"{plan.path}:{base.environment.get('PATH') or _DEFAULT_PATH}"
    return {**base.environment, "PATH": path, **plan.run.environment}


def _as_oci(layer: Descriptor) -> Descriptor:
    media_type = _MEDIA_TYPES.get(layer.media_type)
    if media_type is None:
        raise BuildRefused(
            f"The base image has a layer of the media type {layer.media_type}, which Mendel cannot put "
            "into another image."
        )
    return Descriptor(media_type=media_type, digest=layer.digest, size=layer.size)
