"""What never belongs into an image: secrets by name and by content, caches by name."""

from __future__ import annotations

import re
from fnmatch import translate

SCANNED_BYTES = 1 << 20
"""Files up to this size are looked into; a key is small, a model is not."""

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
    """Whether a file or directory called *name* is left behind without a word."""
    return _CACHE_NAME.match(name.lower()) is not None


def secret_by_name(name: str) -> bool:
    """
    Whether a file or directory called *name* holds a secret by all experience.

    >>> secret_by_name(".env.local"), secret_by_name("Server.PEM"), secret_by_name("id_rsa.pub")
    (True, True, False)
    """
    lowered = name.lower()
    return _SECRET_NAME.match(lowered) is not None and not _PUBLIC_NAME.match(lowered)


def public_by_content(name: str, content: bytes) -> bool:
    """Whether a ``.pem`` holds nothing but certificates and public keys, which are no secret."""
    return name.lower().endswith(".pem") and bool(_PEM_PUBLIC.search(content)) and not _KEY_HEAD.search(content)


def secret_by_content(name: str, content: bytes) -> str | None:
    """
    What kind of secret *content* holds, or None.

    Code may speak of a key's first line without holding one: there some of the key must follow.
    """
    key = _KEY_IN_CODE if name.endswith(".py") else _KEY_HEAD
    if key.search(content) or _PUTTY.search(content):
        return "a private key"
    return "an access key of AWS" if _AWS_KEY.search(content) else None
