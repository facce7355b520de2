"""An image store in memory."""

from __future__ import annotations

import threading
from dataclasses import replace

from mendel.images import ImageRecord, ImageStore
from mendel.values import Digest


class MemoryImageStore(ImageStore):
    """Implements :class:`mendel.images.ImageStore`; a name belongs to the image that received it last."""

    name = "memory"

    def __init__(self) -> None:
        self._records: dict[Digest, ImageRecord] = {}
        self._lock = threading.Lock()

    def add(self, record: ImageRecord) -> None:
        """Add an image with its names; images that had these names before lose them."""
        with self._lock:
            for digest, other in self._records.items():
                left = tuple(name for name in other.references if name not in record.references)
                self._records[digest] = replace(other, references=left)
            former = self._records.get(record.digest)
            names = {*record.references, *(former.references if former else ())}
            self._records[record.digest] = replace(record, references=tuple(sorted(names)))

    def images(self) -> tuple[ImageRecord, ...]:
        with self._lock:
            named = [record for record in self._records.values() if record.references]
        return tuple(sorted(named, key=lambda record: record.created, reverse=True))

    def remove(self, digest: Digest) -> None:
        with self._lock:
            self._records.pop(digest, None)
