"""Find the credentials for a registry: user settings, docker's and podman's credential files, credential helpers."""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from mendel.errors import InvalidSettings, ProgramFailed
from mendel.images.references import DEFAULT_HOST

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ENDING = re.compile(r"(/v[12])?/?$")
_TOKEN_USER = "<token>"  # noqa: S105 - the name that helpers give tokens
_HELPER_PATIENCE = timedelta(seconds=30)
_DOCKER_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user name and password for a registry."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of the ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityToken:
    """A token from an earlier ``docker login``, which the token server exchanges for access tokens."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials are known for the registry."""


Credential = Login | IdentityToken | Anonymous

AskHelper = Callable[[str, str], str]
"""Runs ``program`` for ``registry`` and returns its output, empty if unknown; raises ProgramFailed."""


class Keychain:
    """
    Finds the credentials for a repository; the first of *files* with an entry wins.

    A file may name credential helpers (``credHelpers``, ``credsStore``). A helper program runs only after the registry
    has asked for credentials.

    Args:
        files: Credential files in docker's format (``config.json``, podman's ``auth.json``); missing files are skipped.
        given: Credentials by host from the settings; they take precedence over the files.
    """

    def __init__(
        self, files: Sequence[Path] = (), *, given: Mapping[str, Login] | None = None, ask: AskHelper | None = None
    ) -> None:
        self._files = tuple(files)
        self._given = dict(given or {})
        self._ask = ask or ask_helper

    def find(self, host: str, path: str = "") -> Credential:
        """
        Find the credentials for the repository *path* of *host*; :class:`Anonymous` if none are known.

        Raises:
            InvalidSettings: A credential file is invalid; the message repeats no content.
            ProgramFailed: A credential helper is missing, too slow, or failed.
        """
        if host in self._given:
            return self._given[host]
        for file in self._files:
            found = self._in_file(file, host, path)
            if not isinstance(found, Anonymous):
                return found
        return Anonymous()

    def _in_file(self, file: Path, host: str, path: str) -> Credential:
        tree = _read(file)
        names = tuple(_names(host, path))
        helpers = _by_name(tree.get("credHelpers"))
        for name in names:
            if name in helpers:
                return self._of_helper(str(helpers[name]), host, file)
        entries = _by_name(tree.get("auths"))
        for name in names:
            found = _of_entry(entries.get(name), file)
            if not isinstance(found, Anonymous):
                return found
        store = tree.get("credsStore")
        return self._of_helper(str(store), host, file) if store else Anonymous()

    def _of_helper(self, helper: str, host: str, file: Path) -> Credential:
        if not _HELPER.fullmatch(helper):
            raise InvalidSettings(
                f"The login file {file} names an invalid credential helper.",
                remedy="Write a name of letters, digits, '_', '.' and '-' that starts with a letter or digit.",
            )
        answer = self._ask(f"docker-credential-{helper}", _DOCKER_KEY if host == DEFAULT_HOST else host)
        if not answer:
            return Anonymous()
        try:
            tree = json.loads(answer)
            user, secret = str(tree["Username"]), str(tree["Secret"])
        except (ValueError, KeyError, TypeError):
            message = f"docker-credential-{helper} printed no user name and secret."
            raise ProgramFailed(
                message, remedy=f"Check the key credHelpers in {file}."
            ) from None  # the cause shows the output
        return IdentityToken(token=secret) if user == _TOKEN_USER else Login(user=user, password=secret)


def ask_helper(program: str, registry: str) -> str:
    """Run a credential helper; errors never repeat its output, which may contain the password."""
    remedy = "Run 'docker login' or 'podman login' again, or remove the helper from the login file."
    try:
        done = subprocess.run(  # noqa: S603 - the user's own file names it; no shell
            [program, "get"],
            input=registry,
            capture_output=True,
            text=True,
            check=False,
            timeout=_HELPER_PATIENCE.total_seconds(),
        )
    except FileNotFoundError:
        raise ProgramFailed(
            f"The credential helper {program}, which a login file names, is not installed.", remedy=remedy
        ) from None
    except (OSError, UnicodeDecodeError):
        raise ProgramFailed(f"The credential helper {program} cannot be run.", remedy=remedy) from None
    except subprocess.TimeoutExpired:
        raise ProgramFailed(
            f"The credential helper {program} did not answer within {_HELPER_PATIENCE.total_seconds():g} s.",
            remedy=remedy,
        ) from None
    if done.returncode == 0:
        return done.stdout
    if "credentials not found" in done.stdout + done.stderr:
        return ""
    raise ProgramFailed(f"The credential helper {program} ended with exit code {done.returncode}.", remedy=remedy)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        tree = json.loads(file.read_bytes() or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InvalidSettings(f"The login file {file} cannot be read: {error.strerror}.") from error
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise InvalidSettings(
            f"The login file {file} is not a JSON object.", remedy="Run 'docker login' or 'podman login' again."
        )
    return tree


def _by_name(entries: Any) -> dict[str, Any]:
    """Normalise the keys of a credential file to ``host`` or ``host/path``, without scheme and API version."""
    if not isinstance(entries, dict):
        return {}
    return {_ENDING.sub("", str(key).removeprefix("https://").removeprefix("http://")): entries[key] for key in entries}


def _names(host: str, path: str) -> Iterator[str]:
    """Give the keys that may have the credentials for *path*, longest first; podman allows keys per repository."""
    hosts = (host, "index.docker.io", "registry-1.docker.io") if host == DEFAULT_HOST else (host,)
    for name in hosts:
        parts = [part for part in path.split("/") if part]
        for count in range(len(parts), -1, -1):
            yield "/".join([name, *parts[:count]])


def _of_entry(entry: Any, file: Path) -> Credential:
    if not isinstance(entry, dict):
        return Anonymous()
    if token := entry.get("identitytoken"):
        return IdentityToken(token=str(token))
    if entry.get("username") and entry.get("password"):
        return Login(user=str(entry["username"]), password=str(entry["password"]))
    if not entry.get("auth"):
        return Anonymous()
    try:
        user, colon, password = base64.b64decode(str(entry["auth"])).decode().strip("\0").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise InvalidSettings(
            f"An entry of the login file {file} has no user name and password.",
            remedy="Run 'docker login' or 'podman login' again.",
        )
    return Login(user=user, password=password)
