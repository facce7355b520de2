"""docker, podman and buildah, over their command lines."""

from mendel.adapters.engines.engines import BUILDERS, RUNNERS, EngineFound, EngineProgram, find_engines
from mendel.adapters.engines.stores import EngineImages, belongs

__all__ = ["BUILDERS", "RUNNERS", "EngineFound", "EngineImages", "EngineProgram", "belongs", "find_engines"]
