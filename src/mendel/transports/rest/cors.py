"""Answer cross-origin requests of browsers, as the CORS protocol of the Fetch standard (section 3.2) defines."""

from __future__ import annotations

from msgspec import structs

from mendel.projects import Cors
from mendel.transports.rest.http_messages import Headers, Request, Response, json_response

_METHODS = "GET, HEAD, OPTIONS, POST"
_EXPOSED = (b"access-control-expose-headers", b"retry-after, x-request-id")
_MAX_AGE_S = b"600"
_ANY = "*"


class CrossOrigin:
    """
    Answers preflight requests, and adds CORS headers to answers, so that pages of the allowed origins can read them.

    Requests without the header ``Origin`` get none. For an origin that is not allowed, a preflight is refused with 400,
    and other answers lack the CORS headers. With the origin ``*``, credentials are not allowed.
    """

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._anybody = _ANY in cors.allow_origins
        self._credentials = cors.allow_credentials and not self._anybody
        self._methods = _METHODS if _ANY in cors.allow_methods else ", ".join(cors.allow_methods)

    def preflight(self, request: Request) -> Response | None:
        """Give the response to a preflight request; None for any other request."""
        origin, wanted = request.headers.get(b"origin"), request.headers.get(b"access-control-request-method")
        if request.method != "OPTIONS" or origin is None or wanted is None:
            return None
        asked = request.headers.get(b"access-control-request-headers", b"")
        return self._preflight(origin, wanted.decode("latin-1"), asked.decode("latin-1"))

    def granted(self, request: Request, response: Response) -> Response:
        """Give *response* with the CORS headers for the origin of *request*."""
        origin = request.headers.get(b"origin")
        return (
            response if origin is None else structs.replace(response, headers=(*response.headers, *self._grant(origin)))
        )

    def _allowed(self, origin: bytes) -> bool:
        return self._anybody or origin.decode("latin-1") in self._cors.allow_origins

    def _grant(self, origin: bytes) -> Headers:
        if not self._allowed(origin):
            return ((b"vary", b"Origin"),)
        if self._anybody:
            return ((b"access-control-allow-origin", b"*"), _EXPOSED)
        with_credentials = ((b"access-control-allow-credentials", b"true"),) if self._credentials else ()
        return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"), _EXPOSED, *with_credentials)

    def _preflight(self, origin: bytes, method: str, asked: str) -> Response:
        refused = self._refusal(origin, method, asked)
        if refused is not None:
            return json_response({"error": refused}, status=400, headers=((b"vary", b"Origin"),))
        granted: Headers = (
            *(header for header in self._grant(origin) if header is not _EXPOSED),
            (b"access-control-allow-methods", self._methods.encode()),
            (b"access-control-max-age", _MAX_AGE_S),
        )
        if asked:
            granted = (*granted, (b"access-control-allow-headers", asked.encode("latin-1")))
        return Response(status=200, headers=granted)

    def _refusal(self, origin: bytes, method: str, asked: str) -> str | None:
        cors = self._cors
        if not self._allowed(origin):
            return f"The origin {origin.decode('latin-1')} is not in server.cors.allow_origins."
        if _ANY not in cors.allow_methods and method not in cors.allow_methods:
            return f"The method {method} is not in server.cors.allow_methods."
        known = {name.lower() for name in cors.allow_headers}
        strange = [name for part in asked.split(",") if (name := part.strip().lower()) and name not in known]
        if strange and _ANY not in known:
            return f"The header {strange[0]} is not in server.cors.allow_headers."
        return None
