"""docker, podman and buildah, over their command lines."""

from mendel.adapters.engines.dockerfile_engine import DockerfileEngine
from mendel.adapters.engines.engines import BUILDERS, RUNNERS, EngineFound, EngineProgram, find_engines
from mendel.adapters.engines.stores import EngineImages, belongs

__all__ = [
    "BUILDERS",
    "RUNNERS",
    "DockerfileEngine",
    "EngineFound",
    "EngineImages",
    "EngineProgram",
    "belongs",
    "find_engines",
]
