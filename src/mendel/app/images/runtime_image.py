"""Builds Mendel's own image: the inference server without a project, for versions that a hub deploys."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from mendel.adapters.git import GitPrograms
from mendel.app.images.build import BuildReport, BuildRequest, Draft, Say, build_drafted
from mendel.app.images.cache_directories import places_of, this_platform
from mendel.app.images.lockfile import locking_for
from mendel.app.images.workspace import OCI, ImageWorkspace
from mendel.app.project.installed_tool import this_tool
from mendel.app.settings import ServingSettings
from mendel.images import (
    DATA,
    VENV,
    ImageName,
    ImagePlan,
    Lock,
    OnProgress,
    RunSettings,
    ignore_progress,
    rfc3339,
)
from mendel.projects import Build, Classifier, PredictorSection, Project, RepositorySection
from mendel.values import ModelName, to_json

_NAME = "serve"
_DATED = datetime(1980, 1, 1, tzinfo=UTC)
"""The creation time of the image if the time of the tool's commit is unknown."""


def build_runtime(
    request: BuildRequest, base_image: str | None, *, say: Say, on_progress: OnProgress = ignore_progress
) -> BuildReport:
    """
    Build ``mendel/serve``, an image without project and model.

    At run time ``MENDEL_URL`` names its hub, and ``MENDEL_KEY`` holds its key.

    Args:
        base_image: A base image, as in ``build.base_image``; None means the default of that setting.

    Raises:
        BuildRefused, ImageNotFound, WheelNotFound: The base image or a wheel is not available.
    """
    began = time.monotonic()
    bench = ImageWorkspace(places=places_of((request.path or Path.cwd()).absolute()))
    with _drafted(request, base_image, bench, on_progress) as draft:
        report = build_drafted(request, draft, bench, say=say, on_progress=on_progress)
    return replace(report, seconds=time.monotonic() - began)


@contextmanager
def _drafted(
    request: BuildRequest, base_image: str | None, bench: ImageWorkspace, on_progress: OnProgress
) -> Iterator[Draft]:
    platform = request.platform or this_platform()
    with tempfile.TemporaryDirectory(prefix="mendel-runtime-") as empty:
        project = _nothing_but_mendel(Path(empty), base_image)
        wheels = bench.wheels(bench.places.project)
        lock = locking_for(wheels, bench.bases, on_progress=on_progress).make_lock(project, platforms=(platform,))
        plan = replace(_plan(lock, request.engine), environment=lock.environment(_NAME, platform))
        name = replace(plan.name, registry=request.registry, prefix=request.tag_prefix)
        yield Draft(plan=replace(plan, name=name), project=Path(empty), wheels=wheels, hints=(), lines=(_told(lock),))


def _nothing_but_mendel(directory: Path, base_image: str | None) -> Project:
    """A project without code, whose lock holds a base image and Mendel's own requirements."""
    build = Build() if base_image is None else Build(base_image=base_image)
    nobody = Classifier(
        name=ModelName(_NAME), predictor=PredictorSection(module="none", class_name="Nobody"), build=build
    )
    return Project(
        root=directory, file=directory / "mlserver.yaml", repository=RepositorySection(), classifiers=(nobody,)
    )


def _plan(lock: Lock, engine: str) -> ImagePlan:
    runtime, created = lock.runtime, _commit_time()
    short = () if runtime.commit is None else (f"v{runtime.version}-{runtime.commit[:7]}",)
    labels = {
        "com.mendel.builder": f"oci/{lock.builder}" if engine == OCI else engine,
        "com.mendel.lock": str(lock.digest),
        "com.mendel.reproducible": "false",
        "com.mlserver.commit": runtime.commit or "unknown",
        "com.mlserver.version": runtime.version,
        "org.opencontainers.image.created": rfc3339(created),
        "org.opencontainers.image.description": "Mendel's inference server",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.revision": runtime.commit or "unknown",
        "org.opencontainers.image.title": "mendel-serve",
        "org.opencontainers.image.version": runtime.version,
        **({"org.opencontainers.image.source": runtime.url} if runtime.url else {}),
    }
    python = f"{VENV}/bin/python"
    return ImagePlan(
        classifier=_NAME,
        name=ImageName(repository="mendel", classifier=_NAME),
        tags=("latest", f"v{runtime.version}", *short),
        labels=labels,
        created=created,
        environment=lock.environments[0],
        runtime=runtime,
        artifacts=(),
        code=(),
        manifest=to_json({"format": 1, "runtime": runtime.wheel}) + b"\n",
        run=RunSettings(
            command=(python, "-m", "mendel.app.cli", "serve", "--directory", str(DATA)),
            environment={
                "HOME": str(DATA),
                "MENDEL_SERVING__ENVIRONMENTS": "fixed",
                "MENDEL_SERVING__HOST": "0.0.0.0",  # noqa: S104 - in a container
                "PYTHONUNBUFFERED": "1",
            },
            ports=tuple(port for ports in ServingSettings().ports.values() for port in ports),
            healthcheck=(python, "-m", "mendel.app.server.healthcheck", str(DATA)),
            working_directory=str(DATA),
        ),
    )


def _told(lock: Lock) -> str:
    runtime = lock.runtime
    return f"Runtime: mendel {runtime.version} at {(runtime.commit or 'an unknown commit')[:7]} ({runtime.how})"


def _commit_time() -> datetime:
    tool, git = this_tool(), GitPrograms()
    tree = git.work_tree(Path(str(resources.files("mendel")))) if tool.how == "checkout" else None
    return _DATED if tree is None or tool.commit is None else git.commit_time(tree.top, tool.commit)
