"""An OCI image layout on disk: blobs by digest, image names in ``index.json``, atomic changes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from mendel.adapters.oci.layout.disk_errors import make_directory
from mendel.errors import Corrupt, DigestMismatch, ImageNotFound
from mendel.images.manifests import (
    EMPTY,
    INDEX,
    MANIFEST,
    REF_NAME,
    Descriptor,
    Manifest,
    canonical_json,
    digest_of,
    parse_json,
)
from mendel.values import Digest
from mendel.values.atomic_files import write_atomically
from mendel.values.directory_trees import file_digest

UNFINISHED = ".unfinished-"
_CHUNK_BYTES = 1 << 20
_GRACE_SECONDS = 60
_EMPTY_CONTENT = b"{}"


class Layout:
    """
    An OCI image layout in a directory, which is created at the first write.

    ``index.json`` has one descriptor for each image name, which is in the annotation
    ``org.opencontainers.image.ref.name``, and one descriptor without a name for each attached document. A file lock
    serialises writers. Readers need no lock, because every file is written under another name and renamed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def has(self, digest: Digest) -> bool:
        """Whether the layout has the blob."""
        return self._path(digest).is_file()

    def path(self, digest: Digest) -> Path:
        """
        Give the file of a blob; callers must not change the file.

        Raises:
            ImageNotFound: The layout does not have the blob.
        """
        path = self._path(digest)
        if not path.is_file():
            raise ImageNotFound(
                f"The image directory {self.directory} has no blob {digest}.", remedy="Build or pull the image again."
            )
        return path

    def read(self, digest: Digest) -> bytes:
        """
        Read a small blob (a manifest or configuration) and check its digest.

        Raises:
            ImageNotFound: The layout does not have the blob.
            DigestMismatch: The blob is damaged on disk.
        """
        content = self.path(digest).read_bytes()
        if digest_of(content) != digest:
            raise DigestMismatch(
                f"The blob {digest} in {self.directory} does not have the content of its digest.",
                remedy="Delete the blob's file, and build the image again.",
            )
        return content

    def manifest(self, digest: Digest) -> Manifest:
        """Read the manifest *digest*; errors as in :meth:`read`."""
        return Manifest.parse(self.read(digest))

    def descriptor(self, digest: Digest) -> Descriptor:
        """Make the descriptor of the manifest *digest*; errors as in :meth:`path`."""
        return Descriptor(media_type=MANIFEST, digest=digest, size=self.path(digest).stat().st_size)

    def put(self, content: bytes) -> Digest:
        """Write a small blob unless the layout has it intact; gives the digest."""
        digest = digest_of(content)
        if not self.has(digest) or self._path(digest).read_bytes() != content:
            with self.writing() as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # without fsync, a power failure may leave an empty file under the name
                self.keep(file, digest)
        return digest

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """
        Open a temporary file for a large blob; :meth:`keep` turns the file into a blob.

        A file that was not kept is deleted when the ``with`` block ends. A file that a killed process left is deleted
        by the next call.
        """
        blobs = self._blobs
        make_directory(blobs)
        sweep_unfinished(blobs)
        descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=blobs)
        os.close(descriptor)
        try:
            with Path(name).open("w+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        finally:
            Path(name).unlink(missing_ok=True)

    def keep(self, file: BinaryIO, digest: Digest) -> None:
        """Rename the temporary *file* of :meth:`writing` to the blob *digest*; the caller guarantees the digest."""
        file.flush()
        path = self._path(digest)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)

    def adopt(self, source: Path, digest: Digest) -> None:
        """
        Add the file *source* as the blob *digest*, with a hard link if possible; the caller guarantees the digest.
        """
        path = self._path(digest)
        if path.is_file() and path.stat().st_size == source.stat().st_size:
            return
        path.unlink(missing_ok=True)  # the existing file has another size, so it is damaged
        make_directory(path.parent)
        try:
            path.hardlink_to(source)
        except FileExistsError:
            return
        except OSError:  # another disk, or a file system without hard links
            with source.open("rb") as given, self.writing() as file:
                shutil.copyfileobj(given, file, _CHUNK_BYTES)
                self.keep(file, digest)

    def stream_in(self, chunks: Iterable[bytes], expected: Descriptor, on_bytes: Callable[[int], None]) -> None:
        """
        Write the blob *expected* from *chunks* without holding the whole blob in memory.

        Raises:
            DigestMismatch: The chunks have another digest or size than *expected*.
        """
        hashed, size = hashlib.sha256(), 0
        with self.writing() as file:
            for chunk in chunks:
                size += len(chunk)
                if size > expected.size:
                    break
                hashed.update(chunk)
                file.write(chunk)
                on_bytes(len(chunk))
            if size != expected.size or f"sha256:{hashed.hexdigest()}" != expected.digest:
                raise DigestMismatch(
                    f"The downloaded blob {expected.digest} does not have the content of its digest.",
                    remedy="Try again.",
                )
            self.keep(file, expected.digest)

    def entries(self) -> tuple[Descriptor, ...]:
        """
        Give every entry of ``index.json``: named images, unnamed images, and attached documents (with an artifact
        type).
        """
        return tuple(self._entries())

    def named(self) -> tuple[Descriptor, ...]:
        """Give one descriptor per image name; the name is in the annotations."""
        return tuple(entry for entry in self._entries() if REF_NAME in entry.annotations)

    def find(self, reference: str) -> Descriptor | None:
        """Find the image by name or by manifest digest; None if the layout has no such image."""
        return next(
            (e for e in self._entries() if e.annotations.get(REF_NAME) == reference or e.digest == reference), None
        )

    def name(self, references: Sequence[str], image: Descriptor) -> bool:
        """
        Point every name of *references* at *image*, atomically; images that had one of these names keep their other
        names.

        The new names are listed last. Returns whether any name was new or pointed at another image.
        """
        new = tuple(replace(image, annotations={**image.annotations, REF_NAME: name}) for name in references)
        with self._changing() as entries:
            kept = [entry for entry in entries if entry.annotations.get(REF_NAME) not in references]
            self._write_index([*kept, *new])
            meant = {entry.annotations.get(REF_NAME): entry.digest for entry in entries}
        return any(meant.get(reference) != image.digest for reference in references)

    def attach(
        self, subject: Descriptor, content: bytes, *, artifact_type: str, annotations: dict[str, str] | None = None
    ) -> Descriptor:
        """
        Attach a document to an image, as a manifest with that image as subject; attaching it twice changes nothing.

        Args:
            artifact_type: The document's type; also the media type of the manifest's only layer.
        """
        manifest = Manifest(
            config=Descriptor.of(_EMPTY_CONTENT, EMPTY),
            layers=(Descriptor.of(content, artifact_type),),
            annotations=annotations or {},
            subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
            artifact_type=artifact_type,
        ).as_json()
        attached = Descriptor.of(manifest, MANIFEST, artifact_type=artifact_type, annotations=annotations or {})
        with self.growing():
            for blob in (content, _EMPTY_CONTENT, manifest):
                self.put(blob)
            with self._changing() as entries:
                if all(entry.digest != attached.digest for entry in entries):
                    self._write_index([*entries, attached])
        return attached

    def attachments(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Give the intact documents attached to *subject*, as descriptors of their manifests."""
        unnamed = (entry for entry in self._entries() if entry.artifact_type is not None)
        found = [entry for entry in unnamed if self._subject(entry) == subject]
        return tuple(sorted(found, key=lambda entry: (entry.artifact_type or "", entry.digest)))

    @contextmanager
    def growing(self) -> Iterator[None]:
        """
        Prevent deletion of unnamed blobs, by any process, inside the ``with`` block.

        Builders use this until the new image has a name. The lock ends at the latest with the process.
        """
        make_directory(self.directory)
        with (self.directory / ".growing").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def remove(self, digest: Digest) -> None:
        """
        Remove the image with its names and attachments, and the blobs that no other image needs.

        While another image is being built (:meth:`growing`), only names and attachments are removed; the next removal
        deletes the blobs.
        """
        if not self.directory.is_dir():
            return
        with self._changing() as entries, self._alone() as is_alone:
            attached = {entry.digest for entry in self.attachments(digest)}
            kept = [entry for entry in entries if entry.digest != digest and entry.digest not in attached]
            if is_alone:
                self._collect(entries, kept)
            elif len(kept) < len(entries):
                self._write_index(kept)

    def collect(self) -> None:
        """
        Delete blobs that no image needs, and attachments of removed images; does nothing while :meth:`growing` is
        active.
        """
        if not self.directory.is_dir():
            return
        with self._changing() as entries, self._alone() as is_alone:
            if is_alone:
                self._collect(entries, entries)

    def _collect(self, entries: list[Descriptor], kept: list[Descriptor]) -> None:
        """Reduce the index to *kept*, without attachments whose subject is gone, and delete unused blobs."""
        subjects = {entry.digest for entry in kept}
        kept = [entry for entry in kept if entry.artifact_type is None or self._subject(entry) in subjects]
        if len(kept) < len(entries):
            self._write_index(kept)
        needed = {entry.digest for entry in kept}
        self._forget_all_but({blob for digest in needed for blob in self._reachable(digest)})

    def sweep(self, needed: Collection[Digest]) -> None:
        """Delete every blob except *needed*; does nothing while :meth:`growing` is active."""
        with self._alone() as is_alone:
            if is_alone:
                self._forget_all_but(needed)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """
        Give True and keep builds from starting inside the ``with`` block, or give False while an image is being built.
        """
        with (self.directory / ".growing").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _forget_all_but(self, needed: Collection[Digest]) -> None:
        for path in self._blobs.glob("*"):
            if not path.name.startswith(UNFINISHED) and f"sha256:{path.name}" not in needed:
                path.unlink(missing_ok=True)

    def _subject(self, entry: Descriptor) -> Digest | None:
        """Give the image that *entry* is attached to; None if the manifest or the document is missing or damaged."""
        with suppress(ImageNotFound, DigestMismatch):
            manifest = self.manifest(entry.digest)
            if manifest.subject is not None and all(self.has(layer.digest) for layer in manifest.layers):
                return manifest.subject.digest
        return None

    def _reachable(self, digest: Digest) -> Iterator[Digest]:
        yield digest
        try:
            tree = parse_json(self.read(digest))
        except (ImageNotFound, DigestMismatch):  # the image is unusable; the next build writes its blobs again
            return
        for child in tree.get("manifests") or ():
            yield from self._reachable(Descriptor.parse(child).digest)
        for child in (*([tree["config"]] if "config" in tree else ()), *(tree.get("layers") or ())):
            yield Descriptor.parse(child).digest

    @property
    def _blobs(self) -> Path:
        return self.directory / "blobs" / "sha256"

    def _path(self, digest: Digest) -> Path:
        return self._blobs / digest.hex

    def _entries(self) -> list[Descriptor]:
        try:
            content = (self.directory / "index.json").read_bytes()
        except FileNotFoundError:
            return []
        entries = parse_json(content).get("manifests")
        if not isinstance(entries, list):
            raise Corrupt(f"{self.directory / 'index.json'} is not a valid index of an OCI image directory.")
        return [Descriptor.parse(entry) for entry in entries]

    @contextmanager
    def _changing(self) -> Iterator[list[Descriptor]]:
        make_directory(self.directory)
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._entries()

    def _write_index(self, entries: list[Descriptor]) -> None:
        whole = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry.as_tree() for entry in entries]}
        write_atomically(self.directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        write_atomically(self.directory / "index.json", canonical_json(whole))


def sweep_unfinished(directory: Path) -> None:
    """Delete temporary files of processes that were killed: unlocked and older than a minute."""
    for path in directory.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime > _GRACE_SECONDS:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)


def verify_blob(layout: Layout, digest: Digest) -> None:
    """
    Check the digest of a blob of any size.

    Raises:
        ImageNotFound: The layout does not have the blob.
        DigestMismatch: The blob is damaged on disk.
    """
    if file_digest(layout.path(digest)) != digest:
        raise DigestMismatch(
            f"The blob {digest} in {layout.directory} does not have the content of its digest.",
            remedy="Delete the blob's file, and build the image again.",
        )
