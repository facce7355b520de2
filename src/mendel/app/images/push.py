"""Pushes images to a registry, under the names and with the bytes that the build made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mendel.adapters.oci.layout.image_config import BASE_NAME
from mendel.adapters.oci.layout.layout_images import LayoutImages
from mendel.adapters.oci.registry.push import Published, publish, without_older_latest
from mendel.app.images.build_source import release_of
from mendel.app.images.cache_directories import places_of
from mendel.app.images.image_choice import image_of, newest_image
from mendel.app.images.workspace import ImageWorkspace
from mendel.errors import ImageNotFound, InvalidInput
from mendel.images import ImageRecord, OnProgress, ignore_progress
from mendel.images.references import names_host
from mendel.projects import Project, chosen_classifier, load_project, registry_address
from mendel.values import VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """
    The options of ``mendel push``.

    Attributes:
        registry: ``host/path`` to put in front of every name. None means ``deployment.registry``, or for the names
            as they are if that setting is empty.
        what: A classifier, or a full release tag; None means the project's only classifier.
        model: The registered version whose image to push.
        every: Push the newest image of every classifier.
        force: Overwrite version tags that name another image in the registry.
        latest: Move the tag ``latest`` even if the registry has a newer release.
    """

    registry: str | None = None
    what: str | None = None
    model: VersionRef | None = None
    every: bool = False
    path: Path | None = None
    force: bool = False
    latest: bool = False


def push(request: PushRequest, *, on_progress: OnProgress = ignore_progress) -> tuple[Published, ...]:
    """
    Push exactly the tags that ``build`` made, but move ``latest`` to the newest release only.

    Raises:
        ImageNotFound: The requested image was not built.
        AlreadyExists: A version tag names another image in the registry; nothing was pushed.
        RegistryUnavailable, Unauthenticated, Forbidden: The registry does not answer, or refuses the push.
    """
    project = load_project(request.path or Path.cwd())
    bench = ImageWorkspace(places=places_of(project.root))
    images = LayoutImages(bench.layout).images()
    chosen = _chosen(request, project, images)
    registry = request.registry or registry_address(project.deployment.registry)
    published = []
    with bench.registries() as registries, bench.layout.growing():  # no build takes away what is being sent
        for image in chosen:
            references = _references(image, registry)
            moving = references if request.latest else without_older_latest(references, registries)
            base = bench.layout.manifest(image.digest).annotations.get(BASE_NAME)
            siblings = [name for other in images if registry is not None for name in _references(other, registry)[:1]]
            done = publish(
                bench.layout,
                bench.layout.descriptor(image.digest),
                moving,
                registries=registries,
                force=request.force,
                mount_from=(*((base,) if base else ()), *siblings),
                on_progress=on_progress,
            )
            published.append(replace(done, kept=next((name for name in references if name not in moving), "")))
    return tuple(published)


def _chosen(request: PushRequest, project: Project, images: tuple[ImageRecord, ...]) -> list[ImageRecord]:
    if request.every:
        if request.what is not None or request.model is not None:
            raise InvalidInput("More than one of --classifier, --model and --all was given; give only one.")
        found = [newest_image(images, name) for name in project.names]
        some = [image for image in found if image is not None]
        if not some:
            raise ImageNotFound(
                "The project has no images.", remedy="Build an image first: mendel build --classifier NAME"
            )
        return some
    if request.model is not None:
        project.classifier(request.model.model)
        return [image_of(images, request.model)]
    tag = None if request.what is None else release_of(request.what)
    return [image_of(images, tag or chosen_classifier(project, request.what).name)]


def _references(image: ImageRecord, registry: str | None) -> tuple[str, ...]:
    """Give the names of *image* in *registry*: a registry host at the beginning of a name is replaced."""
    if registry is None:
        if not all(names_host(name) for name in image.references):
            raise InvalidInput(
                f"The image name {image.references[0]} names no registry.",
                remedy="Give --registry HOST/PATH, or set deployment.registry in mlserver.yaml.",
            )
        return image.references
    place = registry.partition("://")[2] if "://" in registry else registry
    place = place.strip("/")
    return tuple(dict.fromkeys(_below(place, name) for name in image.references))


def _below(place: str, name: str) -> str:
    """Give *name* in the registry *place*: a registry host at the beginning of *name* is replaced."""
    if name.startswith(f"{place}/"):
        return name
    return f"{place}/{name.partition('/')[2] if names_host(name) else name}"
