"""Access to base images in layouts, tar files and registries, with the user's own credentials."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mendel.adapters.oci.base_images import BaseImages
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.pull import RegistryImages
from mendel.app.environment import system_environment
from mendel.app.images.cache_directories import Places

if TYPE_CHECKING:
    from mendel.adapters.oci.registry.client import RegistryClients


def bases_for(places: Places) -> BaseImages:
    """Base images for a project, with a cache; relative paths of layouts and tar files start at the project's root."""
    return BaseImages(
        cache=Layout(places.cache / "bases"),
        remote=RegistryImages(open_registries),
        root=places.project,
        local=(Layout(places.images),),
    )


def open_registries() -> RegistryClients:
    """
    Open clients of registries with this machine's settings; no registry is contacted yet.

    Credentials are those of docker and podman, or ``MENDEL_REGISTRY_USER`` and ``MENDEL_REGISTRY_PASSWORD`` for the
    hosts in ``MENDEL_REGISTRY_HOSTS``. ``SSL_CERT_FILE`` names further certificates to trust, and
    ``MENDEL_REGISTRY_INSECURE`` lists hosts that are talked to without TLS.
    """
    from mendel.adapters.oci.registry.client import RegistryClients  # noqa: PLC0415
    from mendel.adapters.oci.registry.credentials import Keychain, Login  # noqa: PLC0415
    from mendel.adapters.oci.registry.messages import RegistrySettings  # noqa: PLC0415 - only who pulls needs a client

    variables = system_environment()
    user, password = variables.get("MENDEL_REGISTRY_USER"), variables.get("MENDEL_REGISTRY_PASSWORD")
    hosts = _listed(variables.get("MENDEL_REGISTRY_HOSTS"))
    given = {host: Login(user=user, password=password) for host in hosts} if user and password else {}
    bundle = variables.get("SSL_CERT_FILE")
    return RegistryClients(
        keychain=Keychain(tuple(credential_files(variables)), given=given),
        settings=RegistrySettings(
            ca_bundle=Path(bundle) if bundle else None,
            insecure_hosts=_listed(variables.get("MENDEL_REGISTRY_INSECURE")),
        ),
        sleep=time.sleep,
        rng=random.Random(),  # noqa: S311 - spreads retries
    )


def credential_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """The files where docker and podman store logins; files that the environment names come first."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    if named := environment.get("DOCKER_CONFIG"):
        yield Path(named) / "config.json"
    elif home := environment.get("HOME"):
        yield Path(home) / ".docker" / "config.json"


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
