"""Read and write the JSON documents of images: descriptors and manifests, with the same bytes on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mendel.errors import Corrupt, InvalidValue
from mendel.values import Digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """
    Points to content by digest and size.

    Attributes:
        platform: ``os/architecture`` of a manifest inside an index, None elsewhere.
        artifact_type: The type of an attached document; None for an image.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    artifact_type: str | None = None

    @classmethod
    def of(cls, content: bytes, media_type: str, **more: Any) -> Descriptor:
        """Make the descriptor of *content*."""
        return cls(media_type=media_type, digest=digest_of(content), size=len(content), **more)

    @classmethod
    def parse(cls, tree: Mapping[str, Any]) -> Descriptor:
        """
        Read a descriptor from JSON; unknown fields are ignored.

        Raises:
            Corrupt: *tree* is not a descriptor.
        """
        try:
            platform = tree.get("platform")
            return cls(
                media_type=str(tree["mediaType"]),
                digest=Digest(tree["digest"]),
                size=int(tree["size"]),
                annotations={str(key): str(value) for key, value in (tree.get("annotations") or {}).items()},
                platform=None if platform is None else f"{platform['os']}/{platform['architecture']}",
                artifact_type=tree.get("artifactType"),
            )
        except (KeyError, TypeError, ValueError, AttributeError, InvalidValue) as error:
            raise Corrupt(f"A descriptor in an image manifest is invalid: {error}.") from error

    def as_tree(self) -> dict[str, Any]:
        """Convert to the JSON form."""
        tree: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            tree["annotations"] = dict(self.annotations)
        if self.artifact_type is not None:
            tree["artifactType"] = self.artifact_type
        if self.platform is not None:
            system, _, architecture = self.platform.partition("/")
            tree["platform"] = {"os": system, "architecture": architecture}
        return tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The manifest of an image, or of an attached document, which has a ``subject``."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str | None = None
    media_type: str = MANIFEST

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """
        Read a manifest in OCI's or docker's format.

        Raises:
            Corrupt: *content* is not a manifest.
        """
        tree = parse_json(content)
        media_type = tree.get("mediaType", MANIFEST)
        if media_type not in MANIFESTS or "config" not in tree:
            raise Corrupt(f"The document has the media type {media_type}, which is not an image manifest.")
        subject = tree.get("subject")
        return cls(
            config=Descriptor.parse(tree["config"]),
            layers=tuple(Descriptor.parse(layer) for layer in tree.get("layers") or ()),
            annotations=tree.get("annotations") or {},
            subject=None if subject is None else Descriptor.parse(subject),
            artifact_type=tree.get("artifactType"),
            media_type=media_type,
        )

    def as_json(self) -> bytes:
        """Write the manifest as JSON; the hash of these bytes is its digest."""
        tree: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.as_tree(),
            "layers": [layer.as_tree() for layer in self.layers],
        }
        if self.artifact_type is not None:
            tree["artifactType"] = self.artifact_type
        if self.annotations:
            tree["annotations"] = dict(self.annotations)
        if self.subject is not None:
            tree["subject"] = self.subject.as_tree()
        return canonical_json(tree)


def canonical_json(tree: Any) -> bytes:
    """Encode as JSON with sorted keys and without spaces, equal on every Python version."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_json(content: bytes) -> dict[str, Any]:
    """
    Decode a JSON object.

    Raises:
        Corrupt: *content* is not a JSON object.
    """
    try:
        tree = json.loads(content)
    except ValueError as error:
        raise Corrupt(f"A manifest or configuration of an image is not JSON: {error}.") from error
    if not isinstance(tree, dict):
        raise Corrupt("A manifest or configuration of an image is not a JSON object.")
    return tree


def digest_of(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
