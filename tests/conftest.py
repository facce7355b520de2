"""What tests from afar have in common: real engines with storage of their own, and real registries."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
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

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
log_driver = "k8s-file"
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{room}/tmp"
"""
STORAGE_CONF = """
[storage]
driver = "{driver}"
graphroot = "{room}/graph"
runroot = "{room}/run"
"""
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


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip where programs are absent or root is asked for and not there, saying what to do; in CI, fail."""

    def check(*programs: str, root: bool = True) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        absent = [program for program in programs if shutil.which(program, path=path) is None]
        lacks = [f"{' and '.join(absent)} (run scripts/install_engines.sh)"] if absent else []
        lacks += ["root"] if root and os.geteuid() else []
        if lacks and os.environ.get("CI"):
            pytest.fail(f"CI runs this test, but there is no {' and no '.join(lacks)}")
        if lacks:
            pytest.skip(f"needs {' and '.join(lacks)}")

    return check


@pytest.fixture(scope="session")
def podman_environment(need: Callable[..., None]) -> Iterator[dict[str, str]]:
    """The environment in which podman and buildah work as root anywhere, its storage gone with the session."""
    need("podman", "buildah", "runc")
    with tempfile.TemporaryDirectory(prefix="mendel-engines-", ignore_cleanup_errors=True) as directory:
        room = Path(directory)
        environment = {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_CONF": str(room / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(room / "storage.conf"),
        }
        (room / "containers.conf").write_text(CONTAINERS_CONF.format(room=room))
        for driver in ("overlay", "vfs"):
            (room / "storage.conf").write_text(STORAGE_CONF.format(room=room, driver=driver))
            if subprocess.run(["podman", "info"], env=environment, capture_output=True, check=False).returncode == 0:
                break
        try:
            yield environment
        finally:
            for command in (["rm", "--all", "--force"], ["rmi", "--all", "--force"]):
                subprocess.run(["podman", *command], env=environment, capture_output=True, check=False)
            _unmount(room)


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on now."""
    return _free_ports(1)[0]


@pytest.fixture
def free_ports() -> tuple[int, ...]:
    """Two such ports."""
    return _free_ports(2)


def _free_ports(count: int) -> tuple[int, ...]:
    with ExitStack() as closing:
        probes = [closing.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)


def _unmount(room: Path) -> None:
    with suppress(OSError):
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{room}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)


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
    _write_certificates(directory)
    (directory / "htpasswd").write_text(HTPASSWD)
    with _serving(directory, REGISTRY + REGISTRY_SECURITY) as host:
        yield RunningRegistry(
            host=host, directory=directory, ca=directory / "ca.pem", login=Login(user=USER, password=PASSWORD)
        )


@contextmanager
def _serving(directory: Path, config: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"docker-registry ended: {(directory / 'log').read_text()}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    pytest.fail("docker-registry does not answer")


def _write_certificates(directory: Path) -> None:
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, reached by a socket in its directory."""
    if shutil.which("initdb") is None or shutil.which("postgres") is None:
        pytest.skip("PostgreSQL is absent; install it (Debian: postgresql) with initdb and postgres on the PATH.")
    as_whom = {"user": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="mendel-pg-"))
    if as_whom:
        shutil.chown(home, **as_whom)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home, **as_whom}
    subprocess.run(["initdb", "-D", home / "data", "-U", "mendel", "-A", "trust", "--no-sync"], check=True, **quiet)
    server = subprocess.Popen(["postgres", "-D", home / "data", "-k", home, "-c", "listen_addresses=", "-F"], **quiet)
    try:
        for _ in range(200):
            if subprocess.run(["pg_isready", "-h", home], check=False, **quiet).returncode == 0:
                break
            time.sleep(0.05)
        yield f"postgresql://mendel@/postgres?host={home}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(home)
