"""HTTP connections to one registry, with TLS, or without TLS where the settings allow it."""

from __future__ import annotations

import ssl
import threading
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from mendel.adapters.oci.registry.messages import RegistrySettings, join
from mendel.errors import InvalidSettings
from mendel.images.references import DEFAULT_HOST, is_loopback

E = TypeVar("E", bound=BaseException)


class ConnectionPool:
    """Opens HTTP clients on first use and keeps them; threads may share the pool."""

    def __init__(self, host: str, settings: RegistrySettings) -> None:
        self._host = host
        self._settings = settings
        self._lock = threading.RLock()
        self._clients: dict[str, httpx.Client] = {}
        self._root: str | None = None

    def root(self) -> str:
        """Give the registry's base URL; ``http:`` only if the settings allow it and the host does not answer TLS."""
        with self._lock:
            if self._root is None:
                host = "registry-1.docker.io" if self._host == DEFAULT_HOST else self._host
                may_be_plain = is_loopback(self._host) or self._host in self._settings.insecure_hosts
                scheme = "http" if may_be_plain and not self._speaks_tls(f"https://{host}/") else "https"
                self._root = f"{scheme}://{host}/"
            return self._root

    def address(self, url: str) -> str:
        """
        Make an absolute URL from a path, or from a URL that the registry sent.

        A registry behind a TLS proxy may send its own ``http:`` address; that address is changed to ``https:``.
        """
        whole = join(self.root(), url)
        if whole.startswith("http:") and _origin("https:" + whole[5:]) == _origin(self.root()):
            return "https:" + whole[5:]
        return whole

    def leads_home(self, address: str) -> bool:
        """Whether *address* has the registry's own origin; only then are credentials sent."""
        origin = _origin(address)
        return origin[1] is not None and origin == _origin(self.root())

    def client(self, address: str) -> httpx.Client:
        """Give the HTTP client for *address*, which does not follow redirects."""
        plain = urlsplit(address).scheme == "http"
        scheme = "http" if plain else "https"
        with self._lock:
            if scheme not in self._clients:
                timeout = self._settings.timeout.total_seconds()
                self._clients[scheme] = httpx.Client(
                    verify=False if plain else self._trust(),
                    timeout=httpx.Timeout(timeout, connect=self._settings.connect_timeout.total_seconds()),
                    headers={"User-Agent": "mendel"},
                    trust_env=not is_loopback(self._host),  # no proxy for a registry on this machine
                )
            return self._clients[scheme]

    def close(self) -> None:
        with self._lock:
            while self._clients:
                self._clients.popitem()[1].close()

    def _speaks_tls(self, root: str) -> bool:
        try:
            self.client(root).get(urljoin(root, "/v2/"))
        except httpx.TransportError as error:
            return cause_of(error, ssl.SSLCertVerificationError) is not None
        return True

    def _trust(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context()
        if self._settings.ca_bundle is not None:
            try:
                context.load_verify_locations(cafile=str(self._settings.ca_bundle))
            except OSError as error:
                raise InvalidSettings(
                    f"The certificate file {self._settings.ca_bundle} cannot be read: {error}.",
                    remedy="Set SSL_CERT_FILE to a PEM file of certificates.",
                ) from error
        return context


def cause_of(error: BaseException, kind: type[E]) -> E | None:
    """Find the first error of *kind* in the causes and contexts of *error*; None if no such error occurs."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kind):
        found = found.__cause__ or found.__context__
    return found


def _origin(address: str) -> tuple[str, str | None, int | None]:
    """Give scheme, host and port; the host is None for an address with user information."""
    parts = urlsplit(address)
    host = None if "@" in parts.netloc else parts.hostname
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        host, port = None, None
    return parts.scheme, host, port
