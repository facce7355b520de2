"""The files with which a server encrypts its connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """
    The paths of PEM files; without a certificate, connections are not encrypted.

    Attributes:
        certificate: The server's certificate, followed by those of the authorities between it and the root.
        key: The private key of the certificate, not encrypted.
        client_ca: The certificates of the authorities whose clients may connect; None accepts clients without one.
    """

    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None

    @property
    def named(self) -> bool:
        """Whether any file is named."""
        return any((self.certificate, self.key, self.client_ca))
