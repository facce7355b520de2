"""Encrypt the connections of ZMQ callers with CURVE, and admit only callers whose public keys are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mendel.errors import InvalidSettings

if TYPE_CHECKING:
    import zmq
    from zmq.auth.asyncio import AsyncioAuthenticator

_DOMAIN = "mendel"
_HOW = "Make both with zmq.auth.create_certificates of the package pyzmq."


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveKeys:
    """
    The files with the keys, in the format of ``zmq.auth.create_certificates``.

    Attributes:
        server: The file with the key pair of the server, which ends with ``.key_secret``.
        callers: The directory with the public keys of the callers, files that end with ``.key``.
    """

    server: Path
    callers: Path

    def check(self) -> None:
        """
        Read the keys.

        Raises:
            InvalidSettings: A file is missing or contains no key, or no caller has a key.
        """
        self._pair()
        if not self.callers.is_dir() or not any(self.callers.glob("*.key")):
            raise InvalidSettings(
                f"The directory {self.callers} of serving.zmq_clients contains no public key of a caller (*.key).",
                remedy=_HOW,
            )

    def encrypt(self, sock: zmq.Socket[Any]) -> None:
        """Let *sock*, which is not bound yet, take encrypted connections only."""
        sock.curve_publickey, sock.curve_secretkey = self._pair()
        sock.curve_server = True
        sock.zap_domain = _DOMAIN.encode()
        sock.zap_enforce_domain = True  # without the authenticator, nobody is let in

    def authenticator(self, context: zmq.Context[Any]) -> AsyncioAuthenticator:
        """Start to refuse callers of *context* whose keys are not known; the caller stops the authenticator."""
        from zmq.auth.asyncio import AsyncioAuthenticator  # noqa: PLC0415 - only encrypted servers need it

        made = AsyncioAuthenticator(context)
        made.start()
        made.configure_curve(domain=_DOMAIN, location=str(self.callers))
        return made

    def _pair(self) -> tuple[bytes, bytes]:
        from zmq.auth import load_certificate  # noqa: PLC0415

        try:
            public, secret = load_certificate(self.server)
        except (OSError, ValueError) as error:
            raise InvalidSettings(
                f"The file {self.server} of serving.zmq_key cannot be read as a CURVE key pair: {error}.", remedy=_HOW
            ) from error
        if secret is None:
            raise InvalidSettings(f"The file {self.server} of serving.zmq_key contains no secret key.", remedy=_HOW)
        return public, secret


def curve_keys(server: str | None, callers: str | None) -> CurveKeys | None:
    """
    Give the keys that the settings ``serving.zmq_key`` and ``serving.zmq_clients`` name; None without both.

    Raises:
        InvalidSettings: Only one of the two is set.
    """
    if server is None and callers is None:
        return None
    if server is None or callers is None:
        raise InvalidSettings(
            "serving.zmq_key and serving.zmq_clients belong together, and only one is set.",
            remedy="Set both, or neither.",
        )
    return CurveKeys(server=Path(server), callers=Path(callers))
