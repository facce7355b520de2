"""Files that never go into an image: caches, recognised by name, and secrets, recognised by name or content."""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache

SCANNED_BYTES = 1 << 20
"""The largest size of a file whose content is searched for secrets; keys are small, models are not."""

_CACHES = (
    "__pycache__",
    "*.pyc",
    "*.pyo",
    ".git",
    ".hg",
    ".svn",
    ".mendel",
    ".venv",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    ".tox",
    ".nox",
    ".eggs",
    "*.egg-info",
    ".ipynb_checkpoints",
    ".ds_store",
    "thumbs.db",
)
_SECRETS = (
    ".env*",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".dockercfg",
    ".htpasswd",
    ".git-credentials",
    "credentials.json",
    "client_secret*.json",
    "service-account*.json",
    "service_account*.json",
    ".ssh",
    ".aws",
    ".azure",
    ".gnupg",
    ".kube",
)
_PUBLIC_NAME = re.compile(translate("id_*.pub"))
_CACHE_NAME = re.compile("|".join(translate(pattern) for pattern in _CACHES))
_SECRET_NAME = re.compile("|".join(translate(pattern) for pattern in _SECRETS))
_KEY_HEAD = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")
_KEY_IN_CODE = re.compile(_KEY_HEAD.pattern + rb"(?:\\[nr]|[\s\"'\\])+[A-Za-z0-9+/]{16}")
_PUTTY = re.compile(rb"^PuTTY-User-Key-File-\d", re.MULTILINE)
_AWS_KEY = re.compile(rb"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])")
_PEM_PUBLIC = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?(?:CERTIFICATE|(?:[A-Z0-9]+ )?PUBLIC KEY)-----")


def is_cache(name: str) -> bool:
    """Tell whether a file or directory called *name* is a cache, which the build leaves out silently."""
    return _CACHE_NAME.match(name.lower()) is not None


def secret_by_name(name: str) -> bool:
    """
    Tell whether files or directories called *name* usually hold a secret.

    >>> secret_by_name(".env.local"), secret_by_name("Server.PEM"), secret_by_name("id_rsa.pub")
    (True, True, False)
    """
    lowered = name.lower()
    return _SECRET_NAME.match(lowered) is not None and not _PUBLIC_NAME.match(lowered)


def public_by_content(name: str, content: bytes) -> bool:
    """Tell whether a ``.pem`` file holds only certificates and public keys, which are not secret."""
    return name.lower().endswith(".pem") and bool(_PEM_PUBLIC.search(content)) and not _KEY_HEAD.search(content)


@lru_cache(maxsize=4)  # classifiers of one project share files
def secret_by_content(name: str, content: bytes) -> str | None:
    """
    Give the kind of secret that *content* holds; None when no secret is found.

    Python code may mention the first line of a key, so there the key's own letters must follow.
    """
    key = _KEY_IN_CODE if name.endswith(".py") else _KEY_HEAD
    if key.search(content) or _PUTTY.search(content):
        return "a private key"
    return "an access key of AWS" if _AWS_KEY.search(content) else None
