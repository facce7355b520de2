"""Verifies an image: its blobs, labels, attached documents and, on request, a rebuild."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from mendel.adapters.git import GitPrograms
from mendel.adapters.oci.layers.container_files import files_below
from mendel.adapters.oci.layout.disk_errors import translated_write_errors
from mendel.adapters.oci.layout.image_contents import read_contents
from mendel.adapters.oci.layout.layout import Layout, verify_blob
from mendel.adapters.oci.registry.client import RegistryClients
from mendel.adapters.oci.registry.pull import pull
from mendel.adapters.oci.registry.push import read_attachment, remote_attachments
from mendel.app.images.attestations import AttachmentReport, verify_attachments
from mendel.app.images.attestations import Verdict as DocumentVerdict
from mendel.app.images.build import BuildRequest, drafted
from mendel.app.images.build_source import release_of
from mendel.app.images.cache_directories import places_of, this_platform
from mendel.app.images.image_choice import MODEL, RELEASE
from mendel.app.images.workspace import OCI, ImageWorkspace
from mendel.errors import ImageNotFound, InvalidInput
from mendel.images import (
    APP,
    MANIFEST,
    Difference,
    ImageContents,
    OnProgress,
    Platform,
    TaskProgress,
    check_files,
    check_labels,
    compare_images,
    ignore_progress,
)
from mendel.images.manifests import Descriptor
from mendel.images.references import ImageReference, names_host
from mendel.projects import Project, load_project
from mendel.values import Digest, VersionRef

_OWN_IMAGES = "the project's images"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """
    The options of ``mendel verify``.

    Attributes:
        image: A reference or digest in the project's own layout, else a reference in a registry.
        rebuild: Also build the image's release tag again, without cached layers, and compare the digests.
        key: The public key file; the image must be signed with this key.
    """

    image: str
    path: Path | None = None
    rebuild: bool = False
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVerdict:
    """
    The result of a verification.

    Attributes:
        source: Where the image was read: ``the project's images``, or the host of a registry.
        platform: The platform of the image; of an index, no other platform is verified.
        label_faults: How the labels differ from the release tag that they name.
        file_faults: How the project's files in the image differ from the list of files that the image contains.
        listed: The image contains a list of its files, so that ``file_faults`` says something.
        documents: The findings about the attached documents.
        rebuilt: The digest of the rebuild; None if no rebuild was requested.
        differences: The inputs that differ between the image and its rebuild.
    """

    image: str
    digest: Digest
    source: str
    platform: str
    release: str | None
    label_faults: tuple[str, ...]
    file_faults: tuple[str, ...] = ()
    listed: bool = True
    documents: AttachmentReport
    rebuilt: Digest | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def contradicted(self) -> bool:
        """Whether a check failed: a label, a file, a document or the rebuild contradicts the image."""
        differs = self.rebuilt is not None and self.rebuilt != self.digest
        return bool(self.label_faults or self.file_faults or self.documents.broken) or differs

    @property
    def unproved(self) -> tuple[str, ...]:
        """
        The claims that nothing proves; empty with a signature by the given key, or a rebuild with the same digest.

        Labels, lists and documents alone prove nothing: a person who changes an image can change them, too.
        """
        if self.documents.signed or self.rebuilt == self.digest:
            return ()
        told = {finding.document: finding for finding in self.documents.findings}
        absent = [name for name in ("sbom", "provenance") if told[name].verdict is DocumentVerdict.ABSENT]
        origin = (
            "that the image was built from the code of the release: the image was not built again (--rebuild)"
            if self.release
            else "which code the image was built from: the image belongs to no release"
        )
        return (
            "who built the image: no signature was checked with a key (--key PUB)",
            origin,
            *(() if self.listed else (f"that the files are the project's files: the image contains no {MANIFEST}",)),
            *(f"the contents of the {name}: the image has no {name}" for name in absent),
        )

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts the image, and a signature or a rebuild proves it."""
        return not self.contradicted and not self.unproved


def verify(request: VerifyRequest, *, on_progress: OnProgress = ignore_progress) -> ImageVerdict:
    """
    Verify the image's blobs, labels, files and attached documents.

    Raises:
        ImageNotFound: Neither the project nor a registry has the image.
        DigestMismatch: A blob is damaged.
        InvalidInput: A rebuild was requested, but the image belongs to no release.
    """
    project = load_project(request.path or Path.cwd())
    bench = ImageWorkspace(places=places_of(project.root))
    with (
        translated_write_errors(bench.places.images, lost="the image was not verified"),
        tempfile.TemporaryDirectory(prefix=".verify-", dir=_beside(bench)) as scratch,
        bench.registries() as registries,
    ):
        layout, image, source = _at_hand(request.image, bench.layout, Layout(Path(scratch)), registries, on_progress)
        on_progress(TaskProgress(doing="checking blobs"))
        _check_blobs(layout, image.digest)
        contents = read_contents(layout, image.digest)
        on_progress(TaskProgress(doing="checking files"))
        found = files_below(layout, _layers(layout, image.digest, contents), str(APP))
        labels = (contents.config.get("config") or {}).get("Labels") or {}
        text = labels.get(RELEASE)
        verdict = ImageVerdict(
            image=request.image,
            digest=image.digest,
            source=source,
            platform=str(_platform(contents)),
            release=text,
            label_faults=check_labels(labels, commit=_commit(project, text), named=_tag_of(request.image)),
            file_faults=() if contents.manifest is None else check_files(contents.manifest, found),
            listed=contents.manifest is not None,
            documents=verify_attachments(layout, image.digest, request.key),
        )
        return _with_rebuild(verdict, contents, project, bench, on_progress) if request.rebuild else verdict


def _with_rebuild(
    verdict: ImageVerdict, contents: ImageContents, project: Project, bench: ImageWorkspace, on_progress: OnProgress
) -> ImageVerdict:
    if verdict.release is None or release_of(verdict.release) is None:
        raise InvalidInput(
            f"The image {verdict.image} has no release tag, so the image cannot be rebuilt.",
            remedy="Verify the image without --rebuild.",
        )
    held = ((contents.config.get("config") or {}).get("Labels") or {}).get(MODEL)
    model = None if held is None else VersionRef.parse(held)
    request = BuildRequest(what=verdict.release, model=model, path=project.root, platform=_platform(contents))
    with (
        tempfile.TemporaryDirectory(prefix=".rebuild-", dir=_beside(bench)) as scratch,
        drafted(request, project, bench, on_progress=on_progress) as draft,
        bench.engine(OCI, draft.wheels, project.root, layout=Layout(Path(scratch))) as engine,
    ):
        again = engine.build(draft.plan, use_cache=False, on_progress=on_progress)
        differences = compare_images(contents, read_contents(Layout(Path(scratch)), again.digest))
    return replace(verdict, rebuilt=again.digest, differences=differences)


def _platform(contents: ImageContents) -> Platform:
    return Platform.parse(f"{contents.config.get('os')}/{contents.config.get('architecture')}")


def _tag_of(name: str) -> str | None:
    """Give the tag in an image's name; None for a digest and for a name without a tag."""
    last = name.partition("@")[0].rsplit("/", 1)[-1]
    return last.partition(":")[2] or None if not last.startswith("sha256:") else None


def _beside(bench: ImageWorkspace) -> Path:
    """Give a directory on the disk of the project's images, where base layers can be linked instead of copied."""
    bench.places.images.mkdir(parents=True, exist_ok=True)
    return bench.places.images


def _at_hand(
    name: str, layout: Layout, scratch: Layout, registries: RegistryClients, on_progress: OnProgress
) -> tuple[Layout, Descriptor, str]:
    found = layout.find(name)
    if found is not None:
        return layout, found, _OWN_IMAGES
    if ":" not in name.rsplit("/", 1)[-1] and (latest := layout.find(f"{name}:latest")) is not None:
        return layout, latest, _OWN_IMAGES
    reference = ImageReference.parse(name)
    if not names_host(name):
        raise ImageNotFound(f"The project has no image {name}.", remedy="List the project's images with: mendel images")
    image = pull(registries, reference, this_platform(), scratch, on_progress=on_progress)
    repository = f"{reference.host}/{reference.path}"
    for entry in remote_attachments(registries, repository, image.digest):
        content = read_attachment(registries, repository, entry)
        scratch.attach(image, content, artifact_type=entry.artifact_type or "", annotations=dict(entry.annotations))
    return scratch, image, reference.host


def _check_blobs(layout: Layout, digest: Digest) -> None:
    manifest = layout.manifest(digest)
    for blob in (manifest.config, *manifest.layers):
        verify_blob(layout, blob.digest)


def _layers(layout: Layout, digest: Digest, contents: ImageContents) -> list[tuple[Descriptor, Digest]]:
    diff_ids = (layer.diff_id for layer in contents.layers)
    return list(zip(layout.manifest(digest).layers, diff_ids, strict=True))


def _commit(project: Project, tag: str | None) -> str | None:
    """The commit of *tag*; None if this repository lacks the tag."""
    git = GitPrograms()
    tree = git.work_tree(project.root)
    details = None if tree is None or tag is None else git.tag(tree.top, tag)
    return None if details is None else details.commit
