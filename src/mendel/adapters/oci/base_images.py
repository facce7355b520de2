"""Find base images in a registry, a layout or an archive, pin them by digest, and cache them for builds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mendel.adapters.oci.layout.archive_reader import open_archive
from mendel.adapters.oci.layout.disk_errors import translated_write_errors
from mendel.adapters.oci.layout.layout import Layout, verify_blob
from mendel.adapters.oci.sandbox.base_inspection import Inside, inspect, path_entries
from mendel.errors import ImageNotFound, InvalidValue, RegistryUnavailable
from mendel.images import BasePin, Bases, LoadedBase, OnProgress, Platform, TaskProgress, ignore_progress
from mendel.images.manifests import INDEXES, MANIFESTS, REF_NAME, Descriptor, parse_json
from mendel.images.references import ImageReference
from mendel.values import Digest, from_json, to_json
from mendel.values.atomic_files import write_atomically

_LAYOUT = "oci:"
_ARCHIVE = "oci-archive:"
_OTHER_TRANSPORTS = ("docker-archive:", "docker-daemon:", "containers-storage:", "dir:", "ostree:")
_INSPECTION_FORMAT = 2


class Remote(Protocol):
    """The source from which base images are pulled."""

    def pull(
        self, reference: ImageReference, platform: Platform, into: Layout, *, on_progress: OnProgress
    ) -> Descriptor:
        """
        Copy the image and all its blobs into *into*; gives the manifest's descriptor for *platform*.

        Raises:
            ImageNotFound: No image has that name, or none is for the platform.
            RegistryUnavailable, Unauthenticated, Forbidden: As the registry answers.
        """


class BaseImages(Bases):
    """
    Implements :class:`mendel.images.Bases`; a base image that was fetched once is never fetched again.

    Args:
        cache: The layout that stores every fetched base by content.
        remote: The source of base images; None when the machine is offline.
        root: The directory that relative paths after ``oci:`` and ``oci-archive:`` start from.
        local: Layouts that may contain a pinned base even after its reference has moved.
    """

    def __init__(
        self, *, cache: Layout, remote: Remote | None = None, root: Path, local: Sequence[Layout] = ()
    ) -> None:
        self._cache = cache
        self._remote = remote
        self._root = root
        self._local = tuple(local)

    def pin(self, reference: str, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> BasePin:
        """Contacts the network only for a reference without a digest."""
        with translated_write_errors(self._cache.directory, lost="the base image was not stored"):
            found = self._find(reference, platform, on_progress)
            inside = self._inside(self._loaded(found, reference, platform))
        return BasePin(
            reference=reference,
            digest=found.digest,
            python=inside.python,
            interpreter=inside.interpreter,
            glibc=inside.glibc,
            runtime=inside.runtime,
        )

    def load(self, pin: BasePin, platform: Platform, *, on_progress: OnProgress = ignore_progress) -> LoadedBase:
        """Looks in the cache, then in local layouts, then in the source that the pin's reference names."""
        with translated_write_errors(self._cache.directory, lost="the base image was not stored"):
            found = self._at_hand(pin.digest, platform) or self._find(_pinned(pin), platform, on_progress)
        if found.digest != pin.digest:
            raise ImageNotFound(
                f"The base image {pin.reference} is now {found.digest}; the pinned {pin.digest} is not available.",
                remedy="Restore the old base image, or run: mendel lock",
            )
        return self._loaded(found, pin.reference, platform)

    def _find(self, reference: str, platform: Platform, on_progress: OnProgress) -> Descriptor:
        if reference.startswith(_LAYOUT):
            layout, name = self._layout(reference.removeprefix(_LAYOUT))
            return self._adopt(layout, choose(layout, name, platform, reference), on_progress)
        if reference.startswith(_ARCHIVE):
            path, name = self._split(reference.removeprefix(_ARCHIVE), Path.is_file)
            with open_archive(path, scratch=self._cache.directory) as layout:
                return self._adopt(layout, choose(layout, name, platform, reference), on_progress)
        if reference.startswith(_OTHER_TRANSPORTS):
            raise InvalidValue(
                (
                    f"The base image {reference} cannot be read: the prefix {reference.partition(':')[0]}: "
                    "is not supported."
                ),
                remedy=(
                    "Use host/name:tag, oci:DIRECTORY, or oci-archive:FILE; FILE may also be written by 'docker save'."
                ),
            )
        return self._pull(ImageReference.parse(reference), platform, on_progress)

    def _pull(self, reference: ImageReference, platform: Platform, on_progress: OnProgress) -> Descriptor:
        if reference.digest is not None and (found := self._at_hand(reference.digest, platform)) is not None:
            return found
        if self._remote is None:
            former = self._cache.find(_key(reference, platform))
            known = "" if former is None else f"; {reference.pinned(former.digest)} is on this machine"
            raise RegistryUnavailable(
                f"Cannot fetch the base image {reference}: this machine is offline.",
                remedy=f"Connect to the network, or set build.base_image to a digest or to oci:DIRECTORY{known}.",
            )
        try:
            found = self._remote.pull(reference, platform, self._cache, on_progress=on_progress)
        except RegistryUnavailable as error:
            remedy = (
                f"{error.remedy} If you have no image registry, make a base image from Debian packages "
                "with: mendel base"
            )
            raise RegistryUnavailable(error.message, retry_after=error.retry_after, remedy=remedy.strip()) from error
        self._cache.name([_key(reference, platform)], found)
        return found

    def _at_hand(self, digest: Digest, platform: Platform) -> Descriptor | None:
        """
        Give the image *digest* if all its blobs are on this machine, else None; an index gives its image for
        *platform*.
        """
        for layout in (self._cache, *self._local):
            if not layout.has(digest):
                continue
            with suppress(ImageNotFound):  # a blob or the platform is missing: try the next layout
                return self._adopt(layout, choose(layout, digest, platform, digest), ignore_progress)
        return None

    def _adopt(self, layout: Layout, image: Descriptor, on_progress: OnProgress) -> Descriptor:
        """Copy the image into the cache; a blob from another layout is checked while copied."""
        manifest = layout.manifest(image.digest)
        parts = (*manifest.layers, manifest.config, image)
        total, done = sum(part.size for part in parts), 0
        for part in parts:
            if layout is self._cache:
                layout.path(part.digest)
            elif not self._cache.has(part.digest):
                verify_blob(layout, part.digest)
                self._cache.adopt(layout.path(part.digest), part.digest)
            done += part.size
            on_progress(TaskProgress(doing="storing the base image", done=done, total=total))
        return image

    def _loaded(self, image: Descriptor, reference: str, platform: Platform) -> LoadedBase:
        manifest = self._cache.manifest(image.digest)
        config = parse_json(self._cache.read(manifest.config.digest))
        require_platform(config, platform, reference)
        return LoadedBase(descriptor=image, manifest=manifest, config=config, blobs=self._cache)

    def _inside(self, base: LoadedBase) -> Inside:
        kept = self._cache.directory / "inspected" / f"{base.descriptor.digest.hex}.{_INSPECTION_FORMAT}.json"
        with suppress(FileNotFoundError, InvalidValue):  # no record, or one of another Mendel version
            return from_json(kept.read_bytes(), Inside)
        settings = base.config.get("config") or {}
        inside = inspect(base.blobs, base.manifest.layers, dict(path_entries(settings.get("Env") or ())))
        write_atomically(kept, to_json(inside))
        return inside

    def _layout(self, text: str) -> tuple[Layout, str | None]:
        path, name = self._split(text, lambda path: (path / "index.json").is_file())
        return Layout(path), name

    def _split(self, text: str, exists: Callable[[Path], bool]) -> tuple[Path, str | None]:
        """Split into path and image name; both may contain colons, so the longest existing path is used."""
        parts = text.split(":")
        for count in range(len(parts), 0, -1):
            path = self._root / Path(":".join(parts[:count])).expanduser()
            if exists(path):
                return path, ":".join(parts[count:]) or None
        whole = self._root / Path(text).expanduser()
        raise ImageNotFound(
            f"The base image {whole} does not exist.",
            remedy=(
                "Make the base image with 'mendel base', or set build.base_image to the name of an image in a registry."
            ),
        )


def choose(layout: Layout, name: str | None, platform: Platform, reference: str) -> Descriptor:
    """
    Find the manifest of *name* (a name, tag or digest; None for the only image) for *platform*.

    Raises:
        ImageNotFound: No image matches, or several do.
    """
    entry = _entry(layout, name, reference)
    for candidate in _manifests(layout, entry):
        if candidate.platform in {None, str(platform)}:
            return replace(candidate, annotations={}, platform=None)
    raise ImageNotFound(
        f"The base image {reference} has no image for the platform {platform}.",
        remedy=f"Set build.base_image to an image that supports {platform}.",
    )


def require_platform(config: Mapping[str, Any], platform: Platform, reference: str) -> None:
    """
    Check that the image's configuration states *platform*.

    Raises:
        ImageNotFound: The image is for another platform.
    """
    own = f"{config.get('os')}/{config.get('architecture')}"
    if own != str(platform):
        raise ImageNotFound(
            f"The base image {reference} is for the platform {own}, not for {platform}.",
            remedy=f"Set build.base_image to an image for {platform}.",
        )


def _entry(layout: Layout, name: str | None, reference: str) -> Descriptor:
    if name is not None and name.startswith("sha256:"):
        digest = Digest(name)
        content = layout.read(digest)
        media_type = parse_json(content).get("mediaType") or MANIFESTS[0]
        return Descriptor.of(content, media_type)
    entries = [entry for entry in layout.entries() if entry.artifact_type is None]
    names = sorted(entry.annotations.get(REF_NAME, "") for entry in entries)
    if name is not None:
        found = [entry for entry in entries if _is_named(entry, name)]
    else:
        found = list({entry.digest: entry for entry in entries}.values())
    if len(found) == 1:
        return found[0]
    if not found:
        message = (
            f"The image directory {layout.directory} has no image {name}."
            if name
            else f"The image directory {layout.directory} has no image."
        )
    else:
        message = f"The base image {reference} is ambiguous: the directory contains several images."
    raise ImageNotFound(
        message, remedy=f"Append one of these names: {', '.join(filter(None, names)) or '(no image has a name)'}."
    )


def _is_named(entry: Descriptor, name: str) -> bool:
    own = entry.annotations.get(REF_NAME, "")
    return own == name or own.endswith(f":{name}")


def _manifests(layout: Layout, entry: Descriptor) -> Iterator[Descriptor]:
    if entry.media_type not in INDEXES:
        yield entry
        return
    for child in parse_json(layout.read(entry.digest)).get("manifests") or ():
        descriptor = Descriptor.parse(child)
        if descriptor.media_type in MANIFESTS and layout.has(descriptor.digest):
            yield descriptor


def _pinned(pin: BasePin) -> str:
    if pin.reference.startswith((_LAYOUT, _ARCHIVE)):
        return pin.reference
    return str(ImageReference.parse(pin.reference).pinned(pin.digest))


def _key(reference: ImageReference, platform: Platform) -> str:
    return f"{reference} {platform}"
