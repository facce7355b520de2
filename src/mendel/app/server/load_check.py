"""
Check that a server can load what it is about to serve, without network and without opening a port.

``python -m mendel.app.server.load_check PROJECT CLASSIFIER [VERSION]`` loads the classifier of the project, or the
registered version in the directory VERSION, by the road that serving takes: the same backend, the same environment and
the same first prediction. It exits with 0, or with 1 and the reason as the last line. The build of an image runs this
module in the image before the image gets its names.

A predictor that requires ``model_dir`` needs a registered version. Without a version, the module is imported and the
class is found, in the same environment, but the predictor is not constructed.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from mendel.adapters.processes.child_processes import worker_environment
from mendel.adapters.processes.model_processes import ModelProcesses
from mendel.app.clock import utc_now
from mendel.app.environment import system_environment
from mendel.app.server.backend_table import BackendContext, chosen_loads, server_environments
from mendel.app.server.identity import identify
from mendel.app.server.standalone import StandaloneFiles, write_project_files, write_version_files
from mendel.app.server.worker import hosted_project
from mendel.app.settings import read_settings
from mendel.errors import MendelError
from mendel.projects import Project
from mendel.serving import Kernel, LocalBreakers, LocalCounters
from mendel.values import DesiredState, ModelConvergence, from_json

_ASK_CLASS: Final = """\
import importlib, inspect, sys
root, module, name, *given = sys.argv[1:]
sys.path[:] = [root, *filter(None, sys.path)]
signature = inspect.signature(getattr(importlib.import_module(module), name))
signature.bind(**dict.fromkeys([*given, "model_dir"]))
print(signature.parameters["model_dir"].default is inspect.Parameter.empty)
"""
"""A program that prints True if a class requires ``model_dir`` and no argument beside those that are given."""


def main(arguments: list[str]) -> int:
    """Load once, print the reason of a failure, and give the exit code."""
    project, classifier, *version = arguments
    try:
        failures = asyncio.run(_failures(Path(project), classifier, *map(Path, version)))
    except MendelError as error:
        failures = [str(error)]
    for failure in failures:
        print(failure, file=sys.stderr)  # noqa: T201 - a program's own output
    return 1 if failures else 0


async def _failures(directory: Path, classifier: str, version: Path | None = None) -> list[str]:
    project = hosted_project(str(directory), classifier)
    with tempfile.TemporaryDirectory(prefix="mendel-") as scratch:
        files = _files(Path(scratch), project, classifier, version)
        run = Path(scratch) / "run"
        run.mkdir()
        environment = worker_environment(os.environ, workers=1, cores=os.cpu_count() or 1)
        rng = random.Random()  # noqa: S311 - pauses, routes and ids, no secrets
        async with (
            ModelProcesses(run, environment=environment, rng=rng),
            _kernel(run, project, rng) as kernel,
        ):
            state = from_json(files.desired_file.read_bytes(), DesiredState)
            found = await kernel.apply(state, lambda digest: (files.artifacts / digest.hex).resolve())
            reasons = [*_reasons(found)]
        needs_version = reasons and version is None and project is not None and _needs_version(project, classifier)
        return [] if needs_version else reasons
    raise AssertionError


def _files(place: Path, project: Project | None, classifier: str, version: Path | None) -> StandaloneFiles:
    if version is not None or project is None:
        return write_version_files(place, version or Path(), {})
    return write_project_files(place, project.classifier(classifier), None, {}, utc_now())


def _kernel(run: Path, project: Project | None, rng: random.Random) -> Kernel:
    policy = read_settings(environment=system_environment()).serving_policy(environments="fixed")
    return Kernel(
        policy,
        load_backend=chosen_loads(BackendContext(run=run, policy=policy, environments=server_environments(policy))),
        sink=None,
        counters=LocalCounters(),
        breakers=LocalBreakers(policy.breaker, utc_now),
        clock=utc_now,
        rng=rng,
        project=project,
        identity=identify(project, None, system_environment()),
    )


def _needs_version(project: Project, name: str) -> bool:
    """Tell whether only the artefact directory of a registered version is missing to construct the predictor."""
    predictor = project.classifier(name).predictor
    if "model_dir" in predictor.init_kwargs:
        return False
    interpreter = read_settings(environment=system_environment()).serving.model_python or sys.executable
    place = (str(project.root.resolve()), predictor.import_name, predictor.class_name)
    asked = subprocess.run(  # noqa: S603 - the program is ours and every value is an argument of its own
        [
            interpreter,
            "-B" if interpreter == sys.executable else "-BE",
            "-c",
            _ASK_CLASS,
            *place,
            *predictor.init_kwargs,
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith("MENDEL_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return asked.returncode == 0 and asked.stdout.split()[-1:] == [b"True"]


def _reasons(found: tuple[ModelConvergence, ...]) -> list[str]:
    return [f"{line.error} {line.detail or ''}".strip() for line in found if line.error is not None]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
