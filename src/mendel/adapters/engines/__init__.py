"""docker, podman and buildah, over their command lines."""

from mendel.adapters.engines.engines import BUILDERS, RUNNERS, EngineFound, EngineProgram, find_engines

__all__ = ["BUILDERS", "RUNNERS", "EngineFound", "EngineProgram", "find_engines"]
