"""Push an image to a registry in an order that never exposes an incomplete image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.blob_upload import Sent
from mendel.adapters.oci.registry.client import RegistryClients
from mendel.adapters.oci.registry.parallel_transfers import TransferProgress, run_parallel
from mendel.adapters.oci.registry.referrers_fallback import attach_by_tag, is_fallback_tag, listed_by_tag
from mendel.errors import AlreadyExists, Corrupt, DigestMismatch, InvalidValue
from mendel.images import OnProgress, ignore_progress
from mendel.images.manifests import INDEXES, Descriptor, Manifest, parse_json
from mendel.images.references import DEFAULT_TAG, ImageReference
from mendel.values import Digest, SemVer

_MOVING: Final = (DEFAULT_TAG, "untagged")
_MAX_ATTACHMENT_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """
    The result of a push.

    Attributes:
        pushed_bytes: Size of the blobs that were sent; 0 if the registry had the image.
        mounted: How many blobs the registry took over from another repository.
        skipped: How many blobs the registry already had.
        references: The references that now point at the image, as given.
        kept: The reference ``latest`` if it was not moved, because it names a newer release; else empty.
    """

    digest: Digest
    pushed_bytes: int
    mounted: int
    skipped: int
    references: tuple[str, ...]
    kept: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A repository and the tags to set there, ``latest`` last."""

    host: str
    path: str
    tags: tuple[str, ...]


def publish(
    layout: Layout,
    image: Descriptor,
    references: Sequence[str],
    *,
    registries: RegistryClients,
    force: bool = False,
    mount_from: Sequence[str] = (),
    on_progress: OnProgress = ignore_progress,
) -> Published:
    """
    Push *image* (a manifest or an index) with its attachments: blobs, manifest, attachments, tags, ``latest`` last.

    Repeating a finished push changes nothing. After a failure no tag points at an incomplete image; tags that were
    already set stay, and the next push continues.

    Args:
        references: Tags to set, ``host/name:tag``, in one or several repositories.
        force: Move version tags that point at another image; ``latest`` and ``untagged...`` are always moved.
        mount_from: References of images with common blobs (the base image, other models); blobs are mounted from those
            in the same registry.

    Raises:
        AlreadyExists: A version tag points at another digest; nothing was pushed. The message names all such tags.
        DigestMismatch: Another client moved a tag during the push, or the registry stored other bytes.
        RegistryUnavailable, Unauthenticated, Forbidden: The registry refused or did not answer.
        ImageNotFound: The layout lacks a blob.
    """
    targets = _targets(references)
    former = _meanings(registries, targets)
    if not force:
        _refuse_moved_tags(former, image.digest)
    sent: list[Sent] = []
    for target in targets:
        push = _Push(layout, registries, target, _siblings(target, mount_from), on_progress)
        moving = [tag for tag in target.tags if former[_name(target, tag)] != image.digest]
        sent += push.run(image, moving)
    _verify(_meanings(registries, targets), image.digest)
    return Published(
        digest=image.digest,
        pushed_bytes=sum(one.sent_bytes for one in sent),
        mounted=sum(one.mounted for one in sent),
        skipped=sum(not one.sent_bytes and not one.mounted for one in sent),
        references=tuple(references),
    )


def without_older_latest(references: Sequence[str], registries: RegistryClients) -> tuple[str, ...]:
    """
    Drop the tag ``latest`` from *references* where the repository in the registry has a newer release.

    An image without a version tag is older than every release.
    """
    kept = []
    given = (_version(ImageReference.parse(text).tag or "") for text in references)
    own = max((version for version in given if version is not None), default=None)
    for text in references:
        reference = ImageReference.parse(text)
        if (reference.tag or DEFAULT_TAG) == DEFAULT_TAG:
            there = map(_version, registries.at(reference.host).tags(reference.path))
            if any(version is not None and (own is None or version > own) for version in there):
                continue
        kept.append(text)
    return tuple(kept)


def list_tags(registries: RegistryClients, repository: str) -> tuple[str, ...]:
    """
    Give the tags of ``host/name``, sorted, without referrers fallback tags; empty if the repository does not exist.
    """
    reference = ImageReference.parse(repository)
    return tuple(tag for tag in registries.at(reference.host).tags(reference.path) if not is_fallback_tag(tag))


def remote_attachments(registries: RegistryClients, repository: str, subject: Digest) -> tuple[Descriptor, ...]:
    """Give the documents attached to *subject*, from the referrers API and from the fallback tag, sorted by type."""
    reference = ImageReference.parse(repository)
    registry = registries.at(reference.host)
    listed = (*(registry.referrers(reference.path, subject) or ()), *listed_by_tag(registry, reference.path, subject))
    found = {entry.digest: entry for entry in listed}
    return tuple(sorted(found.values(), key=lambda entry: (entry.artifact_type or "", entry.digest)))


def read_attachment(registries: RegistryClients, repository: str, attachment: Descriptor) -> bytes:
    """
    Download an attached document.

    Raises:
        ImageNotFound: The registry lists the document but does not have it.
        Corrupt: The manifest is not an attachment, or the document is too large.
        DigestMismatch: The content does not match the digest.
    """
    reference = ImageReference.parse(repository)
    registry = registries.at(reference.host)
    manifest = Manifest.parse(registry.document(reference.path, attachment.digest).content)
    if len(manifest.layers) != 1 or manifest.layers[0].size > _MAX_ATTACHMENT_BYTES:
        raise Corrupt(f"The attachment {attachment.digest} in {repository} does not consist of exactly one document.")
    document, content = manifest.layers[0], bytearray()
    with registry.blob(reference.path, document) as pieces:
        for piece in pieces:
            content += piece
            if len(content) > document.size:
                break
    if Descriptor.of(bytes(content), document.media_type).digest != document.digest:
        raise DigestMismatch(
            f"The downloaded blob {document.digest} of {repository} does not have the content of its digest."
        )
    return bytes(content)


class _Push:
    """Pushes one image to one repository."""

    def __init__(
        self,
        layout: Layout,
        registries: RegistryClients,
        target: _Target,
        siblings: tuple[str, ...],
        on_progress: OnProgress,
    ) -> None:
        self._layout = layout
        self._retry_limits = registries.retry_limits
        self._registry = registries.at(target.host)
        self._target = target
        self._siblings = siblings
        self._on_progress = on_progress

    def run(self, image: Descriptor, tags: Sequence[str]) -> list[Sent]:
        """Push the image and its attachments, then set *tags* one after the other."""
        sent = self._bring(image)
        attachments = self._layout.attachments(image.digest)
        for attachment in attachments:
            sent += self._bring(attachment)
        unlisted = self._unlisted(image.digest, attachments)
        if unlisted:
            attach_by_tag(self._registry, self._target.path, image.digest, unlisted)
        for tag in tags:
            self._put(image, tag)
        if unlisted:  # another client may have overwritten the fallback list in the meantime
            attach_by_tag(self._registry, self._target.path, image.digest, unlisted)
        return sent

    def _bring(self, document: Descriptor) -> list[Sent]:
        """Push a manifest or index by digest, after everything that it refers to."""
        blobs = self._blobs(document)
        if self._registry.resolve(self._target.path, document.digest) == document.digest:
            return [Sent() for _ in blobs]
        if document.media_type in INDEXES:
            children = parse_json(self._layout.read(document.digest)).get("manifests") or ()
            sent = [one for child in children for one in self._bring(Descriptor.parse(child))]
        else:
            progress = TransferProgress(
                f"pushing to {self._target.host}", sum(blob.size for blob in blobs), self._on_progress
            )
            sent = run_parallel(blobs, partial(self._bring_blob, progress), self._retry_limits)
        self._put(document, document.digest)
        return sent

    def _blobs(self, document: Descriptor) -> tuple[Descriptor, ...]:
        if document.media_type in INDEXES:
            return ()
        manifest = self._layout.manifest(document.digest)
        return tuple({blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values())

    def _bring_blob(self, progress: TransferProgress, blob: Descriptor) -> Sent:
        sent = self._registry.upload(
            self._target.path,
            self._layout.path(blob.digest),
            blob,
            siblings=self._siblings,
            on_sent=partial(progress.reached, blob.digest),
        )
        progress.reached(blob.digest, blob.size)
        return sent

    def _put(self, document: Descriptor, selector: str) -> None:
        self._registry.put_document(
            self._target.path, selector, self._layout.read(document.digest), document.media_type
        )

    def _unlisted(self, subject: Digest, attachments: Sequence[Descriptor]) -> tuple[Descriptor, ...]:
        """Select the attachments that the registry's referrers API does not list."""
        if not attachments:
            return ()
        listed = self._registry.referrers(self._target.path, subject)
        if listed is None:
            return tuple(attachments)
        known = {entry.digest for entry in listed}
        return tuple(attachment for attachment in attachments if attachment.digest not in known)


def _targets(references: Sequence[str]) -> tuple[_Target, ...]:
    tags: dict[tuple[str, str], list[str]] = {}
    for text in references:
        reference = ImageReference.parse(text)
        if reference.digest is not None or is_fallback_tag(reference.tag or ""):
            raise InvalidValue(
                f"{text} is not a valid target of a push.", remedy="Give a name with a tag: host/name:tag."
            )
        tags.setdefault((reference.host, reference.path), []).append(reference.tag or DEFAULT_TAG)
    return tuple(
        _Target(host=host, path=path, tags=tuple(sorted(dict.fromkeys(names), key=_order)))
        for (host, path), names in tags.items()
    )


def _version(tag: str) -> SemVer | None:
    """The version of a release's tag ``vX.Y.Z``; None for every other tag."""
    try:
        return SemVer.parse(tag[1:]) if tag.startswith("v") else None
    except InvalidValue:
        return None


def _order(tag: str) -> tuple[int, str]:
    """Sort key of tags: versions first, then ``untagged...``, then ``latest``."""
    return (2 if tag == DEFAULT_TAG else 1 if _may_move(tag) else 0, tag)


def _may_move(tag: str) -> bool:
    return tag in _MOVING or tag.startswith("untagged-")


def _name(target: _Target, tag: str) -> str:
    return f"{target.host}/{target.path}:{tag}"


def _meanings(registries: RegistryClients, targets: Sequence[_Target]) -> dict[str, Digest | None]:
    """Give the current digest of every tag; None for a tag that does not exist."""
    names = [(target, tag) for target in targets for tag in target.tags]

    def resolve(name: tuple[_Target, str]) -> Digest | None:
        return registries.at(name[0].host).resolve(name[0].path, name[1])

    found = run_parallel(names, resolve, registries.retry_limits)
    return {_name(target, tag): digest for (target, tag), digest in zip(names, found, strict=True)}


def _refuse_moved_tags(former: Mapping[str, Digest | None], digest: Digest) -> None:
    fixed = {name: at for name, at in former.items() if not _may_move(name.rpartition(":")[2])}
    taken = [f"{name} is {at}" for name, at in fixed.items() if at not in {None, digest}]
    if taken:
        raise AlreadyExists(
            f"The registry already has other images with these tags: {'; '.join(taken)}. The pushed image is {digest}.",
            remedy="Make a new release with 'mendel tag', or overwrite the tags with 'mendel push --force'.",
        )


def _siblings(target: _Target, mount_from: Sequence[str]) -> tuple[str, ...]:
    paths = []
    for text in mount_from:
        with suppress(InvalidValue):  # a base image from a layout or archive has no registry
            reference = ImageReference.parse(text)
            paths += [reference.path] if reference.host == target.host and reference.path != target.path else []
    return tuple(dict.fromkeys(paths))


def _verify(now: Mapping[str, Digest | None], digest: Digest) -> None:
    for name, at in now.items():
        if at != digest:
            raise DigestMismatch(
                f"{name} was pushed as {digest}, but the registry now returns {at}.",
                remedy="Another client pushed to the same name; check the image of that client, then push again.",
            )
