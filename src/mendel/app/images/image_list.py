"""The images of a project on this machine: in its own layout, in docker and in podman."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mendel.adapters.engines import RUNNERS, EngineImages, EngineProgram, find_engines
from mendel.adapters.git import GitPrograms
from mendel.adapters.oci.layout.disk_errors import translated_write_errors
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.layout.layout_images import LayoutImages
from mendel.app.images.build_source import release_of
from mendel.app.images.cache_directories import places_of
from mendel.app.images.image_choice import CLASSIFIER, RELEASE
from mendel.images import ImageRecord, ImageStore
from mendel.projects import Project, load_project, repository_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An image, and where it is kept: ``layout``, ``docker`` or ``podman``."""

    where: str
    image: ImageRecord


def project_images(path: Path | None, what: str | None = None) -> tuple[Kept, ...]:
    """
    List this project's images, found by their labels: the layout before the engines, the newest first in each.

    Args:
        what: A classifier or a full release tag to limit the list to.

    Raises:
        ProjectNotFound: *path* is in no project, or the project has no such classifier.
    """
    project = load_project(path or Path.cwd())
    tag = None if what is None else release_of(what)
    name = what if tag is None else project.classifier(tag.classifier).name
    if name is not None:
        project.classifier(name)
    return tuple(
        Kept(where=store.name, image=record)
        for store in _stores(project)
        for record in store.images()
        if (name is None or record.labels.get(CLASSIFIER) == name)
        and (tag is None or record.labels.get(RELEASE) == str(tag))
    )


def remove_images(path: Path | None, images: tuple[Kept, ...]) -> None:
    """
    Remove *images* with all their names and attachments, and the stopped containers that ``run`` made of them.

    Raises:
        Conflict: A running container, or a container that Mendel did not create, uses one of the images.
    """
    project = load_project(path or Path.cwd())
    stores = {store.name: store for store in _stores(project)}
    with translated_write_errors(places_of(project.root).images, lost="the images were not removed"):
        for kept in images:
            if kept.where in RUNNERS:
                _remove_ended(EngineProgram(kept.where), kept.image)
            stores[kept.where].remove(kept.image.digest)


def _remove_ended(engine: EngineProgram, image: ImageRecord) -> None:
    for container in engine.containers({}):
        if container.image in image.references and not engine.is_running(container.id):
            engine.stop(container.id)


def _stores(project: Project) -> Iterator[ImageStore]:
    tree = GitPrograms().work_tree(project.root)
    origin = None if tree is None else tree.origin
    yield LayoutImages(Layout(places_of(project.root).images))
    for engine in find_engines(RUNNERS):
        if engine.answers:
            yield EngineImages(engine.name, repository=repository_name(project, origin), origin=origin)
