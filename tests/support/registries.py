"""Registries: docker-registry, open, and behind TLS and a password."""

from __future__ import annotations

import datetime as dt
import ipaddress
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mendel.adapters.oci.registry.client import RegistryClients
from mendel.adapters.oci.registry.credentials import Keychain, Login
from mendel.adapters.oci.registry.session import RegistrySettings
from support.ports import free_ports
from support.waiting import until

USER, PASSWORD = "mendel", "peas-and-patience"
HTPASSWD = "mendel:$2y$05$cUWFcGV0N1qY.zSqUV2CT.CFlTg16rGu7bkFR2Qjs9B9LnE.CBFCG"
"""What ``htpasswd -nbB`` makes of them."""

REGISTRY = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {directory}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
  secret: not-a-secret
"""
REGISTRY_SECURITY = """\
  tls: {{certificate: {directory}/server.pem, key: {directory}/server.key}}
auth:
  htpasswd: {{realm: mendel, path: {directory}/htpasswd}}
"""


@dataclass(frozen=True, kw_only=True)
class RunningRegistry:
    """A registry at ``host``; ``ca`` is the bundle to trust, where it speaks TLS."""

    host: str
    directory: Path
    ca: Path | None = None
    login: Login | None = None

    def client(self, **settings: object) -> RegistryClients:
        """A client that may do everything here."""
        given = {} if self.login is None else {self.host: self.login}
        return RegistryClients(
            keychain=Keychain(given=given),
            settings=RegistrySettings(ca_bundle=self.ca, **settings),  # type: ignore[arg-type]
            sleep=time.sleep,
            rng=random.Random(0),
        )


@pytest.fixture
def docker_registry(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Open to everybody, without TLS."""
    need("docker-registry", root=False)
    directory = tmp_path_factory.mktemp("registry")
    with _serving(directory, REGISTRY) as host:
        yield RunningRegistry(host=host, directory=directory)


@pytest.fixture
def secure_registry(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Behind TLS with an authority of its own, and a password."""
    need("docker-registry", root=False)
    directory = tmp_path_factory.mktemp("registry")
    write_certificates(directory)
    (directory / "htpasswd").write_text(HTPASSWD)
    with _serving(directory, REGISTRY + REGISTRY_SECURITY) as host:
        yield RunningRegistry(
            host=host, directory=directory, ca=directory / "ca.pem", login=Login(user=USER, password=PASSWORD)
        )


@contextmanager
def _serving(directory: Path, config: str) -> Iterator[str]:
    (port,) = free_ports(1)
    file = directory / "config.yml"
    file.write_text(config.format(directory=directory, port=port))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(file)], stdout=log, stderr=log)
        try:
            _wait_until_open(port, process, directory)
            yield f"localhost:{port}"
        finally:
            process.kill()
            process.wait(10)


def _wait_until_open(port: int, process: subprocess.Popen[bytes], directory: Path) -> None:
    def log() -> str:
        return (directory / "log").read_text()

    def is_open() -> bool:
        assert process.poll() is None, f"docker-registry ended: {log()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(is_open, within=20, told=log)


def write_certificates(directory: Path) -> None:
    """Write ``ca.pem`` of an authority, and ``server.pem`` and ``server.key`` of localhost by that authority."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    root = _certificate(authority, authority_key.public_key(), authority, authority_key, None)
    leaf = _certificate(own, key.public_key(), authority, authority_key, names)
    (directory / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (directory / "server.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (directory / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: x509.SubjectAlternativeName | None,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
