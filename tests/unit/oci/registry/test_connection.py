"""Whose address an address is."""

from __future__ import annotations

import pytest

from mendel.adapters.oci.registry.connection import ConnectionPool
from mendel.adapters.oci.registry.messages import RegistrySettings


@pytest.mark.parametrize(
    ("address", "home"),
    [
        ("https://r.example/v2/", True),
        ("https://R.example:443/v2/", True),
        ("http://r.example/v2/", False),
        ("https://r.example:5000/", False),
        ("https://r.example.evil.example/", False),
        ("https://evil.example/r.example", False),
        ("https://r.example@evil.example/", False),
        ("https://evil@r.example/", False),
        ("https://r.example:99999/", False),
    ],
)
def test_only_the_registry_s_own_address_is_home(address: str, home: bool) -> None:
    """Credentials go to the same scheme, host and port only, however alike another address looks."""
    assert ConnectionPool("r.example", RegistrySettings()).leads_home(address) is home


def test_a_registry_behind_a_proxy_keeps_tls() -> None:
    """An address of the registry itself that lost its TLS behind a proxy gets it back; another host's does not."""
    pool = ConnectionPool("r.example", RegistrySettings())
    assert pool.address("http://r.example/v2/up?x=1") == "https://r.example/v2/up?x=1"
    assert pool.address("/v2/up") == "https://r.example/v2/up"
    assert pool.address("http://other.example/v2/up") == "http://other.example/v2/up"
    assert ConnectionPool("docker.io", RegistrySettings()).address("/v2/") == "https://registry-1.docker.io/v2/"
