"""The adapters that build, store and push the images of one project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mendel.adapters.oci.base_images import BaseImages
from mendel.adapters.oci.image_builder import OciEngine
from mendel.adapters.oci.layers.layer_cache import LayerCache
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.sandbox.load_check import LoadCheck
from mendel.adapters.pip import CachedWheels
from mendel.app.images.bases import bases_for, open_registries
from mendel.app.images.cache_directories import Places
from mendel.errors import InvalidInput
from mendel.images import (
    APT_FILE,
    SOURCES_FILE,
    WHEELS_DIRECTORY,
    BuildEngine,
    EngineNeeds,
    apt_packages,
    source_requirements,
)

if TYPE_CHECKING:
    from mendel.adapters.oci.registry.client import RegistryClients

OCI = "oci"
ENGINES = (OCI, "docker", "podman", "buildah")


@dataclass(frozen=True, kw_only=True)
class ImageWorkspace:
    """
    Adapters for one project's images.

    Attributes:
        places: The directories of the checked-out project, even if an exported release is built.
    """

    places: Places

    @staticmethod
    def registries() -> RegistryClients:
        """Clients of registries; use them in a ``with`` block."""
        return open_registries()

    @cached_property
    def layout(self) -> Layout:
        """The layout that holds the project's images."""
        return Layout(self.places.images)

    @cached_property
    def bases(self) -> BaseImages:
        """Base images, from layouts, tar files and registries."""
        return bases_for(self.places)

    def wheels(self, project: Path) -> CachedWheels:
        """The wheels in the project's ``mlserver.wheels/`` and in the cache."""
        return CachedWheels(self.places.cache / "wheels", project=project / WHEELS_DIRECTORY)

    @contextmanager
    def engine(
        self, name: str, wheels: CachedWheels, project: Path, *, layout: Layout | None = None
    ) -> Iterator[BuildEngine]:
        """
        Open the engine *name*; the builder ``oci`` drops unnamed images when the block ends.

        Args:
            project: The directory that is built; its files list the Debian packages and source builds for engines.
            layout: The layout that ``oci`` writes to; the project's images by default.

        Raises:
            InvalidInput: No engine has this name.
        """
        if name != OCI:
            yield self._other_engine(name, wheels, project)
            return
        own = OciEngine(
            layout=layout or self.layout,
            layers=LayerCache(self.places.cache / "layers"),
            bases=self.bases,
            wheels=wheels,
            verifier=LoadCheck(self.places.cache / "rootfs"),
        )
        try:
            yield own
        finally:
            own.close()

    def _other_engine(self, name: str, wheels: CachedWheels, project: Path) -> BuildEngine:
        if name not in ENGINES:
            raise InvalidInput(f"The engine {name!r} is unknown.", remedy=f"Choose one of {', '.join(ENGINES)}.")
        from mendel.adapters.engines import DockerfileEngine  # noqa: PLC0415 - our own builder needs none of it

        needs = EngineNeeds(
            apt=apt_packages(_text(project / APT_FILE)), sources=source_requirements(_text(project / SOURCES_FILE))
        )
        return DockerfileEngine(name, wheels=wheels, bases=self.bases, needs=needs)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""
