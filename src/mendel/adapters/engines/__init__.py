"""Build and run images with the command lines of docker, podman and buildah."""

from mendel.adapters.engines.container_engine import BUILDERS, RUNNERS, EngineFound, EngineProgram, find_engines
from mendel.adapters.engines.dockerfile_builder import DockerfileEngine
from mendel.adapters.engines.engine_images import EngineImages, belongs

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
