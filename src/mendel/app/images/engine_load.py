"""Loads images into docker or podman."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mendel.adapters.engines import EngineImages, EngineProgram, find_engines
from mendel.adapters.engines.container_engine import RUNNERS
from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import Unsupported
from mendel.images import OnProgress, TaskProgress, ignore_progress
from mendel.images.image_archives import write_archive
from mendel.values import Digest


def engine_that_answers(wanted: str | None = None, *, required: bool) -> str | None:
    """
    Find the first engine that answers: docker, else podman; with *wanted*, only that engine.

    Raises:
        Unsupported: *required* is set and no engine answers; the message names each reason.
    """
    found = find_engines((wanted,) if wanted else RUNNERS)
    first = next((engine.name for engine in found if engine.answers), None)
    if first is None and required:
        said = "; ".join(f"{engine.name}: {engine.why_not}" for engine in found)
        raise Unsupported(
            f"No container engine answered ({said}).", remedy="Install docker or podman, or start the docker service."
        )
    return first


def load_image(
    engine: str,
    layout: Layout,
    digest: Digest,
    references: Sequence[str],
    *,
    labels: Mapping[str, str],
    on_progress: OnProgress = ignore_progress,
) -> None:
    """Load the image with all its names into *engine*, unless the engine has it under all those names."""
    if _is_there(engine, layout, digest, references, labels):
        return
    on_progress(TaskProgress(doing=f"loading into {engine}"))
    with layout.growing(), tempfile.TemporaryDirectory(prefix=".load-", dir=layout.directory) as scratch:
        archive = Path(scratch) / "image.tar"
        write_archive(layout, digest, references, archive)
        EngineProgram(engine).load(archive)


def _is_there(
    engine: str, layout: Layout, digest: Digest, references: Sequence[str], labels: Mapping[str, str]
) -> bool:
    """Whether *engine* has the image; some engines identify an image by the digest of its configuration."""
    known = {digest, layout.manifest(digest).config.digest}
    repository, origin = labels.get("com.classifier.repository", ""), labels.get("com.classifier.git_url")
    kept = EngineImages(engine, repository=repository, origin=origin).images()
    return any(one.digest in known and set(references) <= set(one.references) for one in kept)
