"""List attachments in registries without a referrers API, in an index under the fallback tag ``sha256-<hex>``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from mendel.adapters.oci.registry.client import RegistryClient
from mendel.errors import GenerationConflict, ImageNotFound
from mendel.images.manifests import INDEX, Descriptor, canonical_json, parse_json
from mendel.values import Digest

_FALLBACK: Final = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]+)?")
_ATTEMPTS: Final = 8


def is_fallback_tag(tag: str) -> bool:
    """Whether *tag* lists attachments of an image (the fallback tag, or cosign's ``.sig``, ``.att``, ``.sbom``)."""
    return _FALLBACK.fullmatch(tag) is not None


def fallback_tag(subject: Digest) -> str:
    """Give the fallback tag that lists the attachments of *subject*."""
    return f"sha256-{subject.hex}"


def listed_by_tag(registry: RegistryClient, path: str, subject: Digest) -> tuple[Descriptor, ...]:
    """Give the attachments that the fallback tag lists; empty if the tag does not exist."""
    return tuple(Descriptor.parse(entry) for entry in _entries(registry, path, subject))


def attach_by_tag(registry: RegistryClient, path: str, subject: Digest, attachments: Sequence[Descriptor]) -> None:
    """
    Add *attachments* to the fallback list; entries of other clients are kept unchanged.

    Registries have no compare-and-set, so the list is read again after every write until it contains *attachments*.

    Raises:
        GenerationConflict: Other clients keep overwriting the list.
    """
    for _ in range(_ATTEMPTS):
        entries = _entries(registry, path, subject)
        there = {entry.get("digest") for entry in entries}
        missing = [attachment.as_tree() for attachment in attachments if attachment.digest not in there]
        if not missing:
            return
        whole = sorted([*entries, *missing], key=lambda entry: str(entry.get("digest")))
        content = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": whole})
        registry.put_document(path, fallback_tag(subject), content, INDEX)
    raise GenerationConflict(
        f"Other clients keep overwriting the list of documents attached to {subject} in {path}.",
        expected=len(attachments),
        actual=0,
        remedy="Push again after the other clients have finished.",
    )


def _entries(registry: RegistryClient, path: str, subject: Digest) -> list[dict[str, Any]]:
    try:
        document = registry.document(path, fallback_tag(subject))
    except ImageNotFound:
        return []
    entries = parse_json(document.content).get("manifests")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
