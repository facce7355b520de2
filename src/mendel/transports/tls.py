"""Encrypt the connections of a server with the files of ``serving.tls``."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mendel.errors import InvalidSettings
from mendel.values import TlsFiles

_CORRECT: Final = "Correct serving.tls.certificate and serving.tls.key."


def server_context(files: TlsFiles, protocols: Sequence[str]) -> ssl.SSLContext | None:
    """
    Make the context of a server that offers *protocols* (ALPN); None when no file is named.

    With ``client_ca``, clients without a certificate of such an authority cannot connect.

    Raises:
        InvalidSettings: The certificate or the key is missing, or a file cannot be used.
    """
    if not files.named:
        return None
    certificate, key = _required(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # else an encrypted key asks at the terminal
    except (OSError, ValueError) as error:
        reason = _reason(error)
        text = f"The TLS certificate {certificate} with the key {key} cannot be used: {reason}."
        raise InvalidSettings(text, remedy=_CORRECT) from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(cafile=files.client_ca)
        except (OSError, ValueError) as error:
            text = f"The certificates {files.client_ca} of client authorities cannot be used: {_reason(error)}."
            raise InvalidSettings(text, remedy="Correct serving.tls.client_ca.") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def contents(files: TlsFiles) -> tuple[bytes, bytes, bytes | None]:
    """
    Read key, certificate and the certificates of client authorities; None without the last.

    Raises:
        InvalidSettings: The same as :func:`server_context`.
    """
    server_context(files, ())
    certificate, key = _required(files)
    authorities = None if files.client_ca is None else Path(files.client_ca).read_bytes()
    return Path(key).read_bytes(), Path(certificate).read_bytes(), authorities


def _required(files: TlsFiles) -> tuple[str, str]:
    if files.certificate is None or files.key is None:
        raise InvalidSettings(
            "TLS needs a certificate and its key.", remedy="Set both serving.tls.certificate and serving.tls.key."
        )
    return files.certificate, files.key


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
