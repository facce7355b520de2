"""Attached documents in registries without a list of referrers: an index under the fallback tag ``sha256-<hex>``."""

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
    """Whether *tag* names what is attached to an image (our list, or cosign's ``.sig``, ``.att``, ``.sbom``)."""
    return _FALLBACK.fullmatch(tag) is not None


def fallback_tag(subject: Digest) -> str:
    """Under which tag the attachments of *subject* are listed."""
    return f"sha256-{subject.hex}"


def listed_by_tag(registry: RegistryClient, path: str, subject: Digest) -> tuple[Descriptor, ...]:
    """What the fallback tag lists; nothing where there is none."""
    return tuple(Descriptor.parse(entry) for entry in _entries(registry, path, subject))


def attach_by_tag(registry: RegistryClient, path: str, subject: Digest, attachments: Sequence[Descriptor]) -> None:
    """
    Add *attachments* to the list; entries of others stay as they are, to the byte.

    RegistryClients have no compare-and-set, so the list is read again after every write, until it holds ours.

    Raises:
        GenerationConflict: Others overwrite the list faster than we can.
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
        f"The list of what is attached to {subject} in {path} keeps being overwritten.",
        expected=len(attachments),
        actual=0,
        remedy="Push again when the others are done.",
    )


def _entries(registry: RegistryClient, path: str, subject: Digest) -> list[dict[str, Any]]:
    try:
        document = registry.document(path, fallback_tag(subject))
    except ImageNotFound:
        return []
    entries = parse_json(document.content).get("manifests")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
