"""Does the predictor import in the image? Tried where it would run: in its files, as its user, with its interpreter."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from mendel.adapters.oci.layers.unpacking import read_only_copy, unpack
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.layout.manifests import parse_json
from mendel.adapters.oci.sandbox.sandbox import Sandbox
from mendel.adapters.oci.sandbox.unpacked_layers import Layers, UnpackedLayers
from mendel.errors import DeadlineExceeded, ImageNotVerified
from mendel.images import APP, VENV, BuiltImage, ImagePlan, OnProgress, Part, Platform, Progress
from mendel.values import Digest

MODULE_LABEL = "com.classifier.predictor.module"
CLASS_LABEL = "com.classifier.predictor.class"

_IMPORT = """\
import importlib, importlib.util, os, sys
os.chdir(sys.argv[1])
sys.path[0] = os.getcwd()
if importlib.util.find_spec("mendel") is None:
    sys.exit("The image has no Mendel to serve with.")
import mendel.app.server.healthcheck, mendel.app.cli
for module, name in zip(sys.argv[2::2], sys.argv[3::2]):
    if not hasattr(importlib.import_module(module), name):
        sys.exit(f"{module} has no {name}.")
"""


class ImportCheck:
    """
    Imports predictors in unpacked images; constructs none, so that no artefact is loaded.

    What does not belong to the project is unpacked once for every combination of layers, and stays. An image that was
    verified on this machine is not verified again.

    Args:
        directory: The cache of unpacked layers.
        limit: How long an import may take.
    """

    def __init__(self, directory: Path, *, limit: timedelta = timedelta(minutes=2)) -> None:
        self._directory = directory
        self._trees = UnpackedLayers(directory / "layers")
        self._limit = limit

    def verify(self, layout: Layout, plan: ImagePlan, image: BuiltImage, *, on_progress: OnProgress) -> None:
        """
        Import the predictor of *plan* in *image*; on another processor than this machine's, say that nobody did.

        Raises:
            ImageNotVerified: It cannot be imported; carries the end of what was printed.
            Unsupported: The kernel lets nobody run something in a directory of its own, or a program is missing.
        """
        if Platform.parse(plan.environment.platform).machine != platform.machine():
            on_progress(
                Progress(doing=f"not verified: {plan.environment.platform} does not run on {platform.machine()}")
            )
            return
        known = self._directory / "verified" / image.digest.hex
        if known.exists():
            return
        on_progress(Progress(doing="verifying"))
        manifest = layout.manifest(image.digest)
        layers = list(zip(manifest.layers, (layer.diff_id for layer in image.layers), strict=True))
        of_project = sum(layer.part in {Part.ARTIFACTS, Part.CODE} for layer in image.layers)
        below, above = layers[: len(layers) - of_project], layers[len(layers) - of_project :]
        ordered = (
            sum(layer.part is Part.BASE for layer in image.layers) + 1
        )  # the first of our own makes the directories
        with self._trees.tree(layout, below, apart=len(below) - ordered) as tree, self._project(layout, above) as app:
            self._import(plan, Sandbox(tree=tree, app=app), _environment(layout, manifest.config.digest))
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()

    @contextmanager
    def _project(self, layout: Layout, layers: Layers) -> Iterator[Path]:
        """The project's files together: artefacts as they were unpacked once, code fresh."""
        *artifacts, (code, diff_id) = layers
        with self._trees.scratch() as scratch:
            scratch.chmod(0o755)
            if artifacts:
                with self._trees.tree(layout, artifacts) as tree:
                    read_only_copy(tree / "root", scratch)
            unpack(layout, code, diff_id, scratch)
            yield scratch / str(APP).lstrip("/")

    def _import(self, plan: ImagePlan, chamber: Sandbox, environment: Sequence[str]) -> None:
        try:
            ended = chamber.run(import_command(plan), environment, limit=self._limit)
        except DeadlineExceeded as error:
            raise ImageNotVerified(
                f"The import in the image takes longer than {self._limit.total_seconds():.0f} s.",
                remedy="Do not load models or reach for the network while a module is imported.",
            ) from error
        if ended.status != 0:
            raise not_verified(plan, ended.tail)


def import_command(plan: ImagePlan) -> tuple[str, ...]:
    """What imports the predictor of *plan*, run inside its image."""
    wanted = [_import_name(plan.labels[MODULE_LABEL]), plan.labels[CLASS_LABEL]] if _is_of_project(plan) else []
    return (f"{VENV}/bin/python", "-c", _IMPORT, plan.run.working_directory, *wanted)


def not_verified(plan: ImagePlan, tail: str) -> ImageNotVerified:
    """The error for an import that ended badly, having printed *tail* last."""
    name, module = plan.labels.get(CLASS_LABEL), plan.labels.get(MODULE_LABEL)
    what = f"{name} cannot be imported from {module}" if _is_of_project(plan) else "Mendel does not start"
    return ImageNotVerified(
        f"{what} in the image: {_last_line(tail)}",
        log_tail=tail,
        remedy="Add what is missing to the requirements, or use a base image that has the library.",
    )


def _is_of_project(plan: ImagePlan) -> bool:
    return {MODULE_LABEL, CLASS_LABEL} <= plan.labels.keys()


def _environment(layout: Layout, config: Digest) -> list[str]:
    settings = parse_json(layout.read(config)).get("config") or {}
    return [str(text) for text in settings.get("Env") or ()]


def _import_name(module: str) -> str:
    return module.removesuffix(".py").removeprefix("./").replace("/", ".")


def _last_line(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."
