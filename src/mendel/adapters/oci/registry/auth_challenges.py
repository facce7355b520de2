"""Parse the ``WWW-Authenticate`` headers of a registry (RFC 9110, section 11; distribution's token specification)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|$)(?!=)")
_PARAMETER = re.compile(r"""\s*,?\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""")


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicChallenge:
    """The registry asks for user name and password in every request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerChallenge:
    """
    The registry asks for a token from the token server at ``realm``.

    Attributes:
        scopes: The access rights that the refused request needs.
    """

    realm: str
    service: str = ""
    scopes: tuple[str, ...] = ()


Challenge = BasicChallenge | BearerChallenge


def parse_challenges(headers: Sequence[str]) -> Challenge | None:
    """
    Choose the challenge to answer: Bearer before Basic; None if the headers contain neither.

    >>> parse_challenges(['Bearer realm="https://auth.example/token",service="hub",scope="repository:a:pull"'])
    BearerChallenge(realm='https://auth.example/token', service='hub', scopes=('repository:a:pull',))
    """
    found: dict[str, dict[str, str]] = {}
    for header in headers:
        found.update(_parse(header))
    bearer = found.get("bearer", {})
    if bearer.get("realm"):
        scopes = tuple(bearer.get("scope", "").split())
        return BearerChallenge(realm=bearer["realm"], service=bearer.get("service", ""), scopes=scopes)
    return BasicChallenge() if "basic" in found else None


def _parse(header: str) -> dict[str, dict[str, str]]:
    challenges: dict[str, dict[str, str]] = {}
    position = 0
    while scheme := _SCHEME.match(header, position):
        parameters: dict[str, str] = {}
        challenges[scheme[1].lower()] = parameters
        position = scheme.end()
        while parameter := _PARAMETER.match(header, position):
            quoted, plain = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
    return challenges
