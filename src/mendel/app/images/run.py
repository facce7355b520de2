"""Runs a project's image with docker or podman."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mendel.adapters.engines import EngineProgram
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.layout.layout_images import LayoutImages
from mendel.app.images.build_source import release_of
from mendel.app.images.cache_directories import places_of
from mendel.app.images.engine_load import engine_that_answers, load_image
from mendel.app.images.image_choice import CLASSIFIER, RELEASE, image_of
from mendel.images import Container, ImageRecord, OnProgress, RunRequest, ignore_progress
from mendel.projects import Classifier, Project, chosen_classifier, load_project
from mendel.values import VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class RunImageRequest:
    """
    The options of ``mendel run``.

    Attributes:
        what: A classifier or a full release tag; None means the only classifier, else ``default_classifier``.
        model: The registered version whose image to run.
        name: The container's name; None makes one from the classifier's name.
        port: The port of this machine to listen on; None means the project's ``server.port``.
        runner: ``docker`` or ``podman``; None means the first that answers.
    """

    what: str | None = None
    model: VersionRef | None = None
    path: Path | None = None
    name: str | None = None
    port: int | None = None
    runner: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A container that is ready, with its image and engine."""

    container: Container
    image: ImageRecord
    runner: EngineProgram

    def follow(self, write: Callable[[str], None]) -> None:
        """Pass the container's output to *write* until it ends; stop the container when this call ends."""
        try:
            self.runner.follow(self.container.id, write)
        finally:
            self.runner.stop(self.container.id)


def run(request: RunImageRequest, *, on_progress: OnProgress = ignore_progress) -> Running:
    """
    Start the requested image and wait until its server is ready; load the image first if the engine lacks it.

    Raises:
        ImageNotFound: The requested image was not built.
        Unsupported: No engine answers.
        PortInUse, ProgramFailed: The container could not start; nothing is left behind.
    """
    project = load_project(request.path or Path.cwd())
    layout = Layout(places_of(project.root).images)
    classifier, image = _chosen(request, project, LayoutImages(layout).images())
    name = engine_that_answers(request.runner, required=True) or ""
    runner = EngineProgram(name)
    load_image(name, layout, image.digest, image.references, labels=image.labels, on_progress=on_progress)
    container = RunRequest(
        image=image.references[0],
        host_port=request.port or classifier.server.port,
        name=request.name or _container_name(project, classifier),
        environment=request.environment,
        volumes=request.volumes,
        labels={CLASSIFIER: classifier.name},
        digest=image.digest,
        tag=image.labels.get(RELEASE, ""),
        model=str(classifier.name),
    )
    return Running(container=runner.run(container), image=image, runner=runner)


def _chosen(
    request: RunImageRequest, project: Project, images: tuple[ImageRecord, ...]
) -> tuple[Classifier, ImageRecord]:
    if request.model is not None:
        return project.classifier(request.model.model), image_of(images, request.model)
    tag = None if request.what is None else release_of(request.what)
    classifier = chosen_classifier(project, request.what if tag is None else tag.classifier, default=True)
    return classifier, image_of(images, tag or classifier.name)


def _container_name(project: Project, classifier: Classifier) -> str:
    """A name of letters that engines accept, longer than one letter."""
    place = re.sub(r"[^a-zA-Z0-9_.-]+", "-", project.root.name).strip(".-_") or "project"
    return f"{place}-{classifier.name}" if project.multi or len(classifier.name) == 1 else str(classifier.name)
