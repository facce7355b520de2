"""The command that imports a predictor inside its image, and the error for a failed import."""

from __future__ import annotations

from mendel.errors import ImageNotVerified
from mendel.images.entities import VENV, ImagePlan

MODULE_LABEL = "com.classifier.predictor.module"
CLASS_LABEL = "com.classifier.predictor.class"

_IMPORT = """\
import importlib, importlib.util, os, pathlib, sys
os.chdir(sys.argv[1])
if sys.path[:1] == [""]:
    del sys.path[0]
if importlib.util.find_spec("mendel") is None:
    sys.exit("Mendel is not installed in the image.")
import mendel.app.server.healthcheck, mendel.app.cli
try:
    from mendel.serving.project_imports import ProjectModules
    load = ProjectModules(pathlib.Path.cwd()).load
except ImportError:  # an older Mendel in the image
    sys.path.insert(0, os.getcwd())
    load = importlib.import_module
for module, name in zip(sys.argv[2::2], sys.argv[3::2]):
    if not hasattr(load(module), name):
        sys.exit(f"{module} has no {name}.")
"""


def import_command(plan: ImagePlan) -> tuple[str, ...]:
    """Make the command that imports the predictor of *plan* inside the image."""
    wanted = [_import_name(plan.labels[MODULE_LABEL]), plan.labels[CLASS_LABEL]] if _is_of_project(plan) else []
    return (f"{VENV}/bin/python", "-c", _IMPORT, plan.run.working_directory, *wanted)


def not_verified(plan: ImagePlan, tail: str) -> ImageNotVerified:
    """Make the error for a failed import; *tail* is the end of the output."""
    name, module = plan.labels.get(CLASS_LABEL), plan.labels.get(MODULE_LABEL)
    what = f"{name} cannot be imported from {module}" if _is_of_project(plan) else "Mendel cannot be imported"
    return ImageNotVerified(
        f"{what} in the image: {_last_line(tail)}",
        log_tail=tail,
        remedy="Add the missing package to the requirements, or use a base image with the missing library.",
    )


def _is_of_project(plan: ImagePlan) -> bool:
    return {MODULE_LABEL, CLASS_LABEL} <= plan.labels.keys()


def _import_name(module: str) -> str:
    return module.removesuffix(".py").removeprefix("./").replace("/", ".")


def _last_line(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else "the import printed no message."
