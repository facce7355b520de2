"""List and remove the images of one repository in a container engine, selected by label and not by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from mendel.adapters.engines.external_program import Program
from mendel.errors import Conflict, ProgramFailed
from mendel.images import ImageRecord, ImageStore
from mendel.values import Digest

REPOSITORY = "com.classifier.repository"
ORIGIN = "com.classifier.git_url"

_FRACTION = re.compile(r"(\.\d{6})\d*")
_LOCAL = "localhost/"
"""The prefix that podman adds to image names without a registry."""


class EngineImages(ImageStore):
    """
    Implements :class:`mendel.images.ImageStore` for one repository in docker's or podman's storage.

    The digest of a record is the manifest digest, or the image id if the engine stores no manifests.

    Args:
        name: ``docker`` or ``podman``.
        repository: The repository name in the images' label.
        origin: The repository's remote URL without credentials, which separates repositories of the same name; None
            without a remote.
        environment: All environment variables of the engine; None passes Mendel's own environment variables.
    """

    def __init__(
        self, name: str, *, repository: str, origin: str | None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._repository = repository
        self._origin = origin
        self._program = Program(name, environment)

    def images(self) -> tuple[ImageRecord, ...]:
        records = (self._record(found) for found in self._found() if _names(found))
        return tuple(sorted(records, key=lambda record: (record.created, record.digest), reverse=True))

    def remove(self, digest: Digest) -> None:
        """
        Remove every name of the image, and thereby the image; the engine refuses while a container uses the image.

        Raises:
            Conflict: A container uses the image.
        """
        for found in self._found():
            if digest not in {_digest(found), _image_id(found)}:
                continue
            for name in (*(found.get("RepoTags") or ()),) or (_image_id(found),):
                self._remove(str(name))

    def _remove(self, name: str) -> None:
        ended = self._program.attempt("rmi", name)
        if not ended.code or "no such image" in ended.err.lower():
            return
        if "in use" in ended.err or "is using" in ended.err:
            raise Conflict(
                f"The image {name} cannot be removed, because a container uses it.",
                remedy=(
                    f"Find the container with '{self.name} ps --all', and remove it with '{self.name} rm --force ID'."
                ),
            )
        raise self._program.failed(("rmi", name), ended)

    def _found(self) -> Iterator[dict[str, Any]]:
        listed = self._program.answer(
            "images", "--quiet", "--no-trunc", f"--filter=label={REPOSITORY}={self._repository}"
        )
        ids = sorted(set(listed.split()))
        if not ids:
            return
        inspected = self._program.attempt("image", "inspect", *ids)
        try:
            images = json.loads(inspected.out or "[]")
        except ValueError as error:
            raise ProgramFailed(f"{self.name} image inspect did not print JSON.", log_tail=inspected.tail) from error
        yield from (found for found in images if belongs(_labels(found), self._repository, self._origin))

    def _record(self, found: Mapping[str, Any]) -> ImageRecord:
        return ImageRecord(
            digest=_digest(found),
            references=_names(found),
            created=_time(str(found["Created"])),
            size_bytes=int(found["Size"]),
            labels=_labels(found),
            platform=f"{found['Os']}/{found['Architecture']}",
        )


def belongs(labels: Mapping[str, str], repository: str, origin: str | None) -> bool:
    """
    Whether an image with *labels* was built from the repository *repository* with the remote URL *origin*.

    >>> belongs({"com.classifier.repository": "risk"}, "risk", None)
    True
    >>> belongs({"com.classifier.repository": "risk"}, "risk", "https://example.com/risk")
    False
    """
    return labels.get(REPOSITORY) == repository and labels.get(ORIGIN) == origin


def _labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    return (found.get("Config") or {}).get("Labels") or {}


def _names(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(str(name).removeprefix(_LOCAL) for name in found.get("RepoTags") or ()))


def _image_id(found: Mapping[str, Any]) -> Digest:
    return Digest(f"sha256:{str(found['Id']).removeprefix('sha256:')}")


def _digest(found: Mapping[str, Any]) -> Digest:
    """Give the manifest digest, or the image id if the engine stores no manifests (docker's classic image store)."""
    described = found.get("Digest") or (found.get("Descriptor") or {}).get("digest")
    return Digest(described) if described else _image_id(found)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(_FRACTION.sub(r"\1", text)).astimezone(UTC)
