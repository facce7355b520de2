"""HTTP requests to one registry: authentication, retries, redirects, and translation of errors."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from mendel.adapters.oci.registry.auth_challenges import BasicChallenge, BearerChallenge, Challenge, parse_challenges
from mendel.adapters.oci.registry.connection import ConnectionPool, cause_of
from mendel.adapters.oci.registry.credentials import Anonymous, Credential, IdentityToken, Keychain, Login
from mendel.adapters.oci.registry.error_bodies import error_message, retry_after
from mendel.adapters.oci.registry.messages import MAX_DOCUMENT_BYTES, Answer, Call, RegistrySettings, join
from mendel.adapters.oci.registry.retry_limits import RetryLimits, TransientError
from mendel.errors import (
    Corrupt,
    Forbidden,
    RegistryUnavailable,
    TooLarge,
    Unauthenticated,
    Unsupported,
)

_MAX_TOKEN_BYTES: Final = 64 << 10
_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429})
_FIRST_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_NOT_IMPLEMENTED: Final = 501

E = TypeVar("E", bound=BaseException)
_NOT_YET: Final = "MANIFEST_BLOB_UNKNOWN"
"""The error code with which docker's registry refuses a manifest whose blobs another push is still writing."""


class RegistrySession:
    """
    Sends requests to one registry; threads may share the session.

    Credentials are looked up only after the registry asks for them. Credentials are sent to the registry or to the
    token server that the registry names, and never along a redirect to another host.
    """

    def __init__(self, host: str, *, keychain: Keychain, settings: RegistrySettings, retry_limits: RetryLimits) -> None:
        self.host = host
        self.retry_limits = retry_limits
        self.settings = settings
        self._keychain = keychain
        self._lock = threading.RLock()
        self._connections = ConnectionPool(host, settings)
        self._challenge: Challenge | None = None
        self._authorizations: dict[tuple[str, ...], str] = {}
        self._secrets: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()

    def ask(self, call: Call, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> Answer:
        """
        Send a request, and retry after transient failures.

        Raises:
            RegistryUnavailable: The registry does not answer, or stays overloaded.
            Unauthenticated, Forbidden: The registry refuses access; contains the registry's message.
            TooLarge: The answer or the sent content is too large.
            Unsupported: The registry refuses the request for another reason; contains the registry's message.
        """
        return self.retry_limits.retry(lambda: self.ask_once(call, max_bytes=max_bytes))

    def ask_once(self, call: Call, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> Answer:
        """Send one request once; raises :class:`TransientError` for a failure that another attempt may overcome."""
        with self.stream(call) as response:
            content = b"" if call.method == "HEAD" else self._read(response, max_bytes, call)
            return Answer(
                status=response.status_code, headers=dict(response.headers), content=content, url=str(response.url)
            )

    @contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """
        Send one request once and give the response, whose content is still to be read; errors as :meth:`ask_once`.
        """
        with self._translated():
            response = self._open_authorized(call)
            try:
                if response.status_code not in call.accept:
                    self._refuse(response, call)
                yield response
            finally:
                response.close()

    def _open_authorized(self, call: Call) -> httpx.Response:
        shown = self._authorization(call)
        response = self._open(call, shown)
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return response
        challenge = parse_challenges(response.headers.get_list("www-authenticate"))
        detail = self._error_message(response)
        response.close()
        if challenge is None:
            raise Unauthenticated(f"The registry {self.host} denied {call.method} {_place(call)}{detail}.")
        with self._lock:
            if self._authorizations.get(call.scopes) in {None, shown}:
                self._challenge = challenge
                self._authorizations.pop(call.scopes, None)
            fresh = self._authorization(call)
        if fresh == shown:  # the credentials are the same, so a second request would fail too
            raise self._not_let_in(call, detail)
        response = self._open(call, fresh)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            detail = self._error_message(response)
            response.close()
            raise self._not_let_in(call, detail)
        return response

    def _open(self, call: Call, authorization: str | None) -> httpx.Response:
        """Send the request and follow redirects of GET and HEAD; credentials go only to the registry's own host."""
        address = self._connections.address(call.url)
        for _ in range(_MOST_REDIRECTS):
            own = self._connections.leads_home(address)
            headers = {"Accept-Encoding": "identity", **call.headers}
            if own and authorization is not None:
                headers["Authorization"] = authorization
            if call.body is not None or call.method in {"PUT", "POST", "PATCH"}:
                headers["Content-Length"] = str(call.length)
            client = self._connections.client(address)
            content = call.body() if call.body is not None else None
            response = client.send(
                client.build_request(call.method, address, headers=headers, content=content), stream=True
            )
            if response.status_code not in _REDIRECTS or call.method not in {"GET", "HEAD"}:
                return response
            response.close()
            target = join(address, response.headers.get("location", ""))
            if urlsplit(target).scheme not in {"https", urlsplit(address).scheme}:
                raise Unsupported(
                    f"The registry {self.host} redirects to an address without TLS, which Mendel does not follow."
                )
            address = target
        raise Unsupported(f"The registry {self.host} redirects more than {_MOST_REDIRECTS} times.")

    def _authorization(self, call: Call) -> str | None:
        with self._lock:
            if isinstance(self._challenge, BasicChallenge):
                return self._basic(call)
            if call.scopes not in self._authorizations and isinstance(self._challenge, BearerChallenge):
                self._authorizations[call.scopes] = self._token(self._challenge, call)
                self._challenge = replace(self._challenge, scopes=())  # these scopes belong to this call only
            return self._authorizations.get(call.scopes)

    def _basic(self, call: Call) -> str:
        credential = self._credential(call)
        if not isinstance(credential, Login):
            raise self._not_let_in(call, "")
        return credential.basic

    def _token(self, challenge: BearerChallenge, call: Call) -> str:
        """Exchange the credentials for a token with the scopes of the call and of the challenge."""
        realm = join(self._connections.root(), challenge.realm)
        if urlsplit(realm).scheme not in {"https", urlsplit(self._connections.root()).scheme}:
            raise Unauthenticated(
                f"The registry {self.host} asks for credentials without TLS, which Mendel does not send."
            )
        scopes = list(dict.fromkeys([*call.scopes, *challenge.scopes]))
        asked = [("service", challenge.service)] if challenge.service else []
        asked += [("scope", scope) for scope in scopes]
        response = self._ask_for_token(realm, asked, self._credential(call))
        try:
            if response.status_code >= _SERVER_ERROR or response.status_code in _PASSING:
                self._refuse(response, call)
            if response.status_code >= _FIRST_ERROR:
                raise self._not_let_in(call, self._error_message(response))
            token = _token_in(self._read(response, _MAX_TOKEN_BYTES, call))
        finally:
            response.close()
        if not token:
            raise Unauthenticated(f"The token endpoint of the registry {self.host} returned no token.")
        self._secrets.add(token)
        return f"Bearer {token}"

    def _ask_for_token(self, realm: str, asked: list[tuple[str, str]], credential: Credential) -> httpx.Response:
        client = self._connections.client(realm)
        headers = {"Accept-Encoding": "identity"}
        match credential:
            case IdentityToken(token=token):
                form = {"grant_type": "refresh_token", "client_id": "mendel", "refresh_token": token}
                form |= {"service": dict(asked).get("service", "")}
                form |= {"scope": " ".join(value for name, value in asked if name == "scope")}
                request = client.build_request("POST", realm, data=form, headers=headers)
            case Login():
                headers["Authorization"] = credential.basic
                request = client.build_request("GET", httpx.URL(realm).copy_merge_params(tuple(asked)), headers=headers)
            case Anonymous():
                request = client.build_request("GET", httpx.URL(realm).copy_merge_params(tuple(asked)), headers=headers)
        return client.send(request, stream=True)

    def _credential(self, call: Call) -> Credential:
        path = next((scope.split(":")[1] for scope in call.scopes if scope.startswith("repository:")), "")
        credential = self._keychain.find(self.host, path)
        match credential:
            case Login(password=password):
                self._secrets |= {password, credential.basic.removeprefix("Basic ")}
            case IdentityToken(token=token):
                self._secrets.add(token)
            case Anonymous():
                pass
        return credential

    def _read(self, response: httpx.Response, max_bytes: int, call: Call) -> bytes:
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > max_bytes:
                raise TooLarge(
                    f"The registry {self.host} answered {call.method} {_place(call)} with more than {max_bytes} bytes."
                )
        return bytes(content)

    def _refuse(self, response: httpx.Response, call: Call) -> NoReturn:
        status, detail = response.status_code, self._error_message(response)
        asked = f"{call.method} {_place(call)}"
        busy = status in _PASSING or (status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED)
        if busy or _NOT_YET in detail:
            message = f"The registry {self.host} answered {asked} with status {status}{detail}."
            wish = retry_after(response.headers)
            raise TransientError(RegistryUnavailable(message, retry_after=wish, remedy="Try again later."))
        if status == httpx.codes.FORBIDDEN:
            raise Forbidden(
                f"The registry {self.host} does not allow {asked}{detail}.",
                remedy="Ask the registry's owner for access, or log in as another user.",
            )
        if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise TooLarge(f"The registry {self.host} denied {asked}: {call.length} bytes are too many{detail}.")
        raise Unsupported(f"The registry {self.host} denied {asked} with status {status}{detail}.")

    def _error_message(self, response: httpx.Response) -> str:
        return error_message(response, secrets=self._secrets)

    def _not_let_in(self, call: Call, detail: str) -> Unauthenticated:
        known = not isinstance(self._credential(call), Anonymous)
        happened = "rejected the user name and password" if known else "requires a login"
        return Unauthenticated(
            f"The registry {self.host} {happened}{detail}.",
            remedy=f"Run 'docker login {self.host}' or 'podman login {self.host}', or set "
            f"MENDEL_REGISTRY_HOSTS={self.host}, MENDEL_REGISTRY_USER and MENDEL_REGISTRY_PASSWORD.",
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            untrusted = cause_of(error, ssl.SSLCertVerificationError)
            if untrusted is not None:
                raise RegistryUnavailable(
                    f"The certificate of the registry {self.host} is not trusted: {untrusted.verify_message}.",
                    remedy="Set SSL_CERT_FILE to a file with the certificate of the registry's authority.",
                ) from error
            happened = str(error) or type(error).__name__
            message = f"The registry {self.host} does not answer: {happened}."
            remedy = "Check the registry's name and the network, and try again."
            raise TransientError(RegistryUnavailable(message, remedy=remedy)) from error
        except httpx.InvalidURL as error:
            raise Corrupt(f"The registry {self.host} sent an invalid address: {error}.") from error


def _token_in(content: bytes) -> str:
    try:
        tree = json.loads(content)
    except ValueError:
        return ""
    found = (tree.get("token") or tree.get("access_token") or "") if isinstance(tree, dict) else ""
    return found if isinstance(found, str) and found.isascii() and found.isprintable() else ""


def _place(call: Call) -> str:
    """Give the URL's path without the query, which can contain secrets in upload URLs."""
    return urlsplit(call.url).path
