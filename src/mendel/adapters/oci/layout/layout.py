"""An OCI image layout on disk: blobs by digest, names in ``index.json``, each change whole or not at all."""

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
    The layout in one directory, which is made when something is first written.

    ``index.json`` names images by the annotation ``org.opencontainers.image.ref.name`` (the whole reference), one
    descriptor for each name; attached documents stand there unnamed. Writers exclude each other by a lock on a file;
    readers need none, since every file appears by a rename.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return self._path(digest).is_file()

    def path(self, digest: Digest) -> Path:
        """
        The file of a blob, which must not be changed.

        Raises:
            ImageNotFound: It is not here.
        """
        path = self._path(digest)
        if not path.is_file():
            raise ImageNotFound(f"{self.directory} has no blob {digest}.", remedy="Build or pull the image again.")
        return path

    def read(self, digest: Digest) -> bytes:
        """
        The content of a small blob (a manifest, a configuration), checked.

        Raises:
            ImageNotFound: It is not here.
            DigestMismatch: The disk changed it.
        """
        content = self.path(digest).read_bytes()
        if digest_of(content) != digest:
            raise DigestMismatch(
                f"The blob {digest} in {self.directory} is damaged.", remedy="Remove it and build again."
            )
        return content

    def manifest(self, digest: Digest) -> Manifest:
        """The manifest of that digest; raises as :meth:`read` does."""
        return Manifest.parse(self.read(digest))

    def descriptor(self, digest: Digest) -> Descriptor:
        """How another document points to the manifest *digest*; raises as :meth:`path` does."""
        return Descriptor(media_type=MANIFEST, digest=digest, size=self.path(digest).stat().st_size)

    def put(self, content: bytes) -> Digest:
        """Write a small blob; one that is here and whole is left alone."""
        digest = digest_of(content)
        if not self.has(digest) or self._path(digest).read_bytes() != content:
            with self.writing() as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # without it, a power cut may leave the name on an empty file
                self.keep(file, digest)
        return digest

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """
        A file to write a large blob to; :meth:`keep` makes it one.

        It vanishes with the block unless it was kept, whatever ends the block; what a killed process left is locked by
        nobody and vanishes with the next one.
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
        """Give what was written to *file* (of :meth:`writing`) its name; the caller vouches for the digest."""
        file.flush()
        path = self._path(digest)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)

    def adopt(self, source: Path, digest: Digest) -> None:
        """Take over the file *source*, whose content is known to be *digest*, by a link where the disk allows one."""
        path = self._path(digest)
        if path.is_file() and path.stat().st_size == source.stat().st_size:
            return
        path.unlink(missing_ok=True)  # shorter than it should be: a disk that failed
        make_directory(path.parent)
        try:
            path.hardlink_to(source)
        except FileExistsError:
            return
        except OSError:  # another disk, or one without links
            with source.open("rb") as given, self.writing() as file:
                shutil.copyfileobj(given, file, _CHUNK_BYTES)
                self.keep(file, digest)

    def stream_in(self, chunks: Iterable[bytes], expected: Descriptor, on_bytes: Callable[[int], None]) -> None:
        """
        Write a blob from *chunks* in bounded memory.

        Raises:
            DigestMismatch: What came is not what was expected, or more.
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
                raise DigestMismatch(f"The blob {expected.digest} arrived with other content.", remedy="Try again.")
            self.keep(file, expected.digest)

    def entries(self) -> tuple[Descriptor, ...]:
        """All of ``index.json``: images with and without a name, and attached documents, which have a type."""
        return tuple(self._entries())

    def named(self) -> tuple[Descriptor, ...]:
        """Every name, as the descriptor of its image with the name as annotation."""
        return tuple(entry for entry in self._entries() if REF_NAME in entry.annotations)

    def find(self, reference: str) -> Descriptor | None:
        """What *reference* (or a manifest's digest) names here."""
        return next(
            (e for e in self._entries() if e.annotations.get(REF_NAME) == reference or e.digest == reference), None
        )

    def name(self, references: Sequence[str], image: Descriptor) -> bool:
        """
        Let every one of *references* mean *image*, all at once; what they meant before keeps its other names.

        The names stand last from now on. Gives whether one of them meant something else before, or nothing.
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
        Attach a document to an image: a manifest whose subject it is. The same document twice is one.

        Args:
            artifact_type: What it is; also the media type of its only layer.
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
        """The documents attached to *subject*, by the digests of their manifests; none that is gone or damaged."""
        unnamed = (entry for entry in self._entries() if entry.artifact_type is not None)
        found = [entry for entry in unnamed if self._subject(entry) == subject]
        return tuple(sorted(found, key=lambda entry: (entry.artifact_type or "", entry.digest)))

    @contextmanager
    def growing(self) -> Iterator[None]:
        """
        While this is open, blobs that no name needs yet stay where they are.

        Whoever writes blobs of an image holds it until the image is named; it ends with the process at the latest.
        """
        make_directory(self.directory)
        with (self.directory / ".growing").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def remove(self, digest: Digest) -> None:
        """
        Take the image away, with its names, its attachments, and the blobs that nothing else needs.

        Where another image is just :meth:`growing`, only names and attachments of this one go now; the next removal
        takes the blobs, and the attachments of images that lost their last name.
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
        """Free what no name needs, attachments of nameless images too, unless an image is just :meth:`growing`."""
        if not self.directory.is_dir():
            return
        with self._changing() as entries, self._alone() as is_alone:
            if is_alone:
                self._collect(entries, entries)

    def _collect(self, entries: list[Descriptor], kept: list[Descriptor]) -> None:
        """Of the index's *entries* only *kept* stay, as far as attachments have their subject, and their blobs."""
        subjects = {entry.digest for entry in kept}
        kept = [entry for entry in kept if entry.artifact_type is None or self._subject(entry) in subjects]
        if len(kept) < len(entries):
            self._write_index(kept)
        needed = {entry.digest for entry in kept}
        self._forget_all_but({blob for digest in needed for blob in self._reachable(digest)})

    def sweep(self, needed: Collection[Digest]) -> None:
        """Remove every blob but the *needed* ones, unless this layout is just :meth:`growing`."""
        with self._alone() as is_alone:
            if is_alone:
                self._forget_all_but(needed)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no image is just growing; none begins to while the block is open."""
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
        """What *entry* is attached to; nothing, where its manifest or document is gone or the manifest damaged."""
        with suppress(ImageNotFound, DigestMismatch):
            manifest = self.manifest(entry.digest)
            if manifest.subject is not None and all(self.has(layer.digest) for layer in manifest.layers):
                return manifest.subject.digest
        return None

    def _reachable(self, digest: Digest) -> Iterator[Digest]:
        yield digest
        try:
            tree = parse_json(self.read(digest))
        except (ImageNotFound, DigestMismatch):  # nobody can use the image; building it again brings its blobs back
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
            raise Corrupt(f"{self.directory / 'index.json'} is not the index of an image layout.")
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
    """Remove the half-made files of processes that are no more: they are older than a minute and nobody locks them."""
    for path in directory.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime > _GRACE_SECONDS:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)


def verify_blob(layout: Layout, digest: Digest) -> None:
    """
    Read a blob of any size and check it.

    Raises:
        ImageNotFound: It is not here.
        DigestMismatch: The disk changed it.
    """
    if file_digest(layout.path(digest)) != digest:
        raise DigestMismatch(
            f"The blob {digest} in {layout.directory} is damaged.", remedy="Remove it and build again."
        )
