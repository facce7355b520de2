"""The directories of images, wheels and layers on this machine."""

from __future__ import annotations

import platform as machine
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mendel.app.environment import cache_directory, system_environment
from mendel.images import Platform

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """
    The directories of a project's images and of the cache.

    Attributes:
        project: The project's root; its images are in ``.mendel/images`` below it.
        cache: Shared by all projects of a user; may be removed at any time.
    """

    project: Path
    cache: Path

    @property
    def images(self) -> Path:
        """The layout that holds this project's images."""
        return self.project / ".mendel" / "images"


def places_of(project: Path, environment: Mapping[str, str] | None = None) -> Places:
    """The directories of *project*; the cache is ``MENDEL_CACHE``, ``XDG_CACHE_HOME/mendel`` or ``~/.cache/mendel``."""
    variables = system_environment() if environment is None else environment
    return Places(project=project, cache=cache_directory(variables))


def runs_here(platform: str) -> bool:
    """Whether this machine's processor runs images of *platform*."""
    return Platform.parse(platform).machine == machine.machine()


def this_platform() -> Platform:
    """Linux on this machine's processor: the default platform of builds."""
    return Platform.parse(f"linux/{_ARCHITECTURES.get(machine.machine().lower(), machine.machine())}")
