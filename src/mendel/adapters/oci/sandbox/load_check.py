"""Check that a server can load the predictor in the built image, with the image's files, user and environments."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from mendel.adapters.oci.layers.unpacking import read_only_copy, unpack
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.sandbox.sandbox import Sandbox
from mendel.adapters.oci.sandbox.unpacked_layers import Layers, UnpackedLayers
from mendel.errors import DeadlineExceeded, ImageNotVerified
from mendel.images import APP, BuiltImage, ImagePart, ImagePlan, OnProgress, Platform, TaskProgress
from mendel.images.load_command import LOAD_LIMIT, load_command, not_verified
from mendel.images.manifests import parse_json
from mendel.values import Digest


class LoadCheck:
    """
    Loads predictors in unpacked images as a server does, without network.

    Layers outside the project are unpacked once per combination of layers and cached. An image that was verified on
    this machine is not verified again.

    Args:
        directory: The cache of unpacked layers.
        limit: The maximum duration of a check.
    """

    def __init__(self, directory: Path, *, limit: timedelta = LOAD_LIMIT) -> None:
        self._directory = directory
        self._trees = UnpackedLayers(directory / "layers")
        self._limit = limit

    def verify(self, layout: Layout, plan: ImagePlan, image: BuiltImage, *, on_progress: OnProgress) -> None:
        """
        Load the predictor of *plan* in *image*; for another processor architecture, only report "not verified".

        Raises:
            ImageNotVerified: The load failed; contains the end of the output.
            Unsupported: The kernel allows neither user namespaces nor a change of root, or a program is missing.
        """
        if Platform.parse(plan.environment.platform).machine != platform.machine():
            on_progress(
                TaskProgress(
                    doing=(
                        f"image not verified: an image for {plan.environment.platform} cannot run on "
                        f"{platform.machine()}"
                    )
                )
            )
            return
        known = self._directory / "verified" / image.digest.hex
        if known.exists():
            return
        on_progress(TaskProgress(doing="verifying"))
        manifest = layout.manifest(image.digest)
        layers = list(zip(manifest.layers, (layer.diff_id for layer in image.layers), strict=True))
        of_project = sum(layer.part in {ImagePart.ARTIFACTS, ImagePart.CODE} for layer in image.layers)
        below, above = layers[: len(layers) - of_project], layers[len(layers) - of_project :]
        ordered = (
            sum(layer.part is ImagePart.BASE for layer in image.layers) + 1
        )  # the first layer above the base creates the directories
        with self._trees.tree(layout, below, apart=len(below) - ordered) as tree, self._project(layout, above) as app:
            self._load(plan, Sandbox(tree=tree, app=app), _environment(layout, manifest.config.digest))
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()

    @contextmanager
    def _project(self, layout: Layout, layers: Layers) -> Iterator[Path]:
        """Assemble the project directory: artefacts linked from a cached copy, code unpacked."""
        *artifacts, (code, diff_id) = layers
        with self._trees.scratch() as scratch:
            scratch.chmod(0o755)
            if artifacts:
                with self._trees.tree(layout, artifacts) as tree:
                    read_only_copy(tree / "root", scratch)
            unpack(layout, code, diff_id, scratch)
            yield scratch / str(APP).lstrip("/")

    def _load(self, plan: ImagePlan, sandbox: Sandbox, environment: Sequence[str]) -> None:
        try:
            ended = sandbox.run(load_command(plan), environment, limit=self._limit)
        except DeadlineExceeded as error:
            raise ImageNotVerified(
                f"Loading the predictor in the image took longer than {self._limit.total_seconds():.0f} s.",
                remedy=(
                    "Make the predictor load faster, and do not use the network while a module is imported or a "
                    "predictor is constructed."
                ),
            ) from error
        if ended.status != 0:
            raise not_verified(plan, ended.tail)


def _environment(layout: Layout, config: Digest) -> list[str]:
    settings = parse_json(layout.read(config)).get("config") or {}
    return [str(text) for text in settings.get("Env") or ()]
