"""The base images this machine can reach: layouts, archives, and registries with the user's own credentials."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mendel.adapters.oci.bases import BaseImages
from mendel.adapters.oci.layout import Layout
from mendel.adapters.oci.pulling import RegistryImages
from mendel.app.images.places import Places
from mendel.app.settings import system_environment

if TYPE_CHECKING:
    from mendel.adapters.oci.registry import Registries


def bases_for(places: Places) -> BaseImages:
    """Bases for the project, cached beside its wheels; relative layouts and archives start from its root."""
    return BaseImages(
        cache=Layout(places.cache / "bases"),
        remote=RegistryImages(open_registries),
        root=places.project,
        local=(Layout(places.images),),
    )


def open_registries() -> Registries:
    """Registries with the credentials that docker and podman keep; nothing is asked of any yet."""
    from mendel.adapters.oci.conversation import RegistrySettings  # noqa: PLC0415 - only who pulls needs a client
    from mendel.adapters.oci.credentials import Keychain  # noqa: PLC0415
    from mendel.adapters.oci.registry import Registries  # noqa: PLC0415

    keychain = Keychain(tuple(credential_files(system_environment())))
    return Registries(keychain=keychain, settings=RegistrySettings(), sleep=time.sleep, rng=random.Random())  # noqa: S311 - spreads retries


def credential_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where docker and podman keep logins, what the user names first."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield Path(environment.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
