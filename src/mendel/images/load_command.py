"""The command that loads a predictor inside its image as a server does, and the error for a failed load."""

from __future__ import annotations

from datetime import timedelta

from mendel.errors import ImageNotVerified
from mendel.images.entities import APP, VENV, ImagePlan
from mendel.images.file_selection import VERSION_DIRECTORY

LOAD_LIMIT = timedelta(minutes=6)
"""The time that the check of an image may take: longer than servers wait for a load."""

MODULE_LABEL = "com.classifier.predictor.module"
CLASS_LABEL = "com.classifier.predictor.class"

_LOAD = """\
import importlib, importlib.util, os, pathlib, sys
os.chdir(sys.argv[1])
if sys.path[:1] == [""]:
    del sys.path[0]
if importlib.util.find_spec("mendel") is None:
    sys.exit("Mendel is not installed in the image.")
import mendel.app.server.healthcheck, mendel.app.cli
if importlib.util.find_spec("mendel.app.server.load_check") is not None:
    from mendel.app.server.load_check import main
    sys.exit(main([sys.argv[1], *sys.argv[4:]]) if sys.argv[2:] else 0)
try:  # an older Mendel in the image
    from mendel.serving.project_imports import ProjectModules
    load = ProjectModules(pathlib.Path.cwd()).load
except ImportError:
    sys.path.insert(0, os.getcwd())
    load = importlib.import_module
for module, name in zip(sys.argv[2:3], sys.argv[3:4]):
    if not hasattr(load(module), name):
        sys.exit(f"{module} has no {name}.")
"""


def load_command(plan: ImagePlan) -> tuple[str, ...]:
    """Make the command that loads the predictor of *plan* inside the image."""
    wanted: list[str] = []
    if _is_of_project(plan):
        has_version = any(file.path.startswith(f"{VERSION_DIRECTORY}/") for file in plan.artifacts)
        version = [f"{APP}/{VERSION_DIRECTORY}"] if has_version else []
        wanted = [_import_name(plan.labels[MODULE_LABEL]), plan.labels[CLASS_LABEL], plan.classifier, *version]
    return (f"{VENV}/bin/python", "-c", _LOAD, plan.run.working_directory, *wanted)


def not_verified(plan: ImagePlan, tail: str) -> ImageNotVerified:
    """Make the error for a failed load; *tail* is the end of the output."""
    name, module = plan.labels.get(CLASS_LABEL), plan.labels.get(MODULE_LABEL)
    what = f"{name} of {module} cannot be loaded" if _is_of_project(plan) else "Mendel cannot be imported"
    remedy = "Add the missing package to the requirements, or use a base image with the missing library"
    if plan.environment.project is not None:
        remedy += "; code that imports Mendel, or needs its packages, needs build.isolation: shared and 'mendel lock'"
    return ImageNotVerified(f"{what} in the image: {_last_line(tail)}", log_tail=tail, remedy=f"{remedy}.")


def _is_of_project(plan: ImagePlan) -> bool:
    return {MODULE_LABEL, CLASS_LABEL} <= plan.labels.keys()


def _import_name(module: str) -> str:
    return module.removesuffix(".py").removeprefix("./").replace("/", ".")


def _last_line(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else "the program printed no message."
