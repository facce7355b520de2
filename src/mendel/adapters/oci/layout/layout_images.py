"""Lists and removes the images of a layout."""

from __future__ import annotations

from datetime import datetime

from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import Corrupt, ImageNotFound
from mendel.images import ImageRecord, ImageStore
from mendel.images.manifests import Manifest, parse_json
from mendel.values import EPOCH, Digest


class LayoutImages(ImageStore):
    """Implements :class:`mendel.images.ImageStore` for the images in *layout*."""

    name = "oci"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def images(self) -> tuple[ImageRecord, ...]:
        """
        Every named image, newest first; of images of equal age, the image named last comes first.

        An image whose documents are missing or damaged gets the oldest possible time, no size and no labels, so that it
        can be removed.
        """
        names: dict[Digest, set[str]] = {}
        positions: dict[Digest, int] = {}
        for position, entry in enumerate(self._layout.named()):
            if entry.artifact_type is None:
                names.setdefault(entry.digest, set()).add(entry.annotations["org.opencontainers.image.ref.name"])
                positions[entry.digest] = position
        records = [self._record(digest, tuple(sorted(references))) for digest, references in names.items()]
        return tuple(sorted(records, key=lambda one: (one.created, positions[one.digest]), reverse=True))

    def remove(self, digest: Digest) -> None:
        """Removes the image's names and attachments, and its blobs unless another image is being built."""
        self._layout.remove(digest)

    def _record(self, digest: Digest, references: tuple[str, ...]) -> ImageRecord:
        try:
            return self._whole(digest, references)
        except (ImageNotFound, Corrupt):
            return ImageRecord(digest=digest, references=references, created=EPOCH, size_bytes=0)

    def _whole(self, digest: Digest, references: tuple[str, ...]) -> ImageRecord:
        content = self._layout.read(digest)
        manifest = Manifest.parse(content)
        config = parse_json(self._layout.read(manifest.config.digest))
        settings = config.get("config") or {}
        return ImageRecord(
            digest=digest,
            references=references,
            created=_created(config.get("created")),
            size_bytes=len(content) + manifest.config.size + sum(layer.size for layer in manifest.layers),
            labels=dict(settings.get("Labels") or {}),
            platform=f"{config.get('os')}/{config.get('architecture')}",
        )


def _created(text: object) -> datetime:
    if text is None:
        return EPOCH
    try:
        return datetime.fromisoformat(str(text))
    except ValueError as error:
        raise Corrupt(f"The creation time {text!r} of an image is not a valid time.") from error
