"""Read the headers of a gRPC request once for all requests with equal headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import grpc

from mendel.transports.grpc.call_handling import credential_of
from mendel.transports.grpc.framing import trailers_only
from mendel.transports.grpc.methods import Method, StreamingMethod
from mendel.transports.http2.header_blocks import encode_block
from mendel.transports.http2.request_headers import Request

COMPRESSIONS: Final = "identity,deflate,gzip"
_CONTENT_TYPE: Final = re.compile(rb"application/grpc(\+proto)?\s*(;.*)?")
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_LONGEST_S: Final = 1e6
_NOT_POST: Final = encode_block(((b":status", b"405"), (b"allow", b"POST")))
_NOT_GRPC: Final = encode_block(((b":status", b"415"), (b"accept", b"application/grpc")))
_Refusal = tuple[str, bytes | None]
_NO_REFUSAL: Final[_Refusal] = ("", None)
_UNKNOWN: Final = trailers_only(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


class RequestHead:
    """
    The headers of a gRPC request.

    Attributes:
        method: None when ``refusal`` says why there is none.
        streams: Whether the request is read as it arrives.
        credential: The API key; None without one.
        timeout_s: The time in which the caller wants the answer, in seconds; None for any time.
        compression: ``gzip`` or ``deflate`` for the messages that are compressed; None for none.
        refusal: The header block that answers the request; None when the request can be answered.
        refused_as: The status of ``refusal`` in the metrics; empty without a refusal.
    """

    __slots__ = (
        *("compression", "credential", "method", "refusal", "refused_as", "request_id", "streams", "timeout_s"),
        "traceparent",
    )

    def __init__(self, request: Request, methods: Mapping[bytes, Method]) -> None:
        metadata = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.fields.items()}
        self.method = methods.get(request.path)
        self.streams = isinstance(self.method, StreamingMethod)
        self.credential = credential_of(metadata)
        self.request_id, self.traceparent = metadata.get("x-request-id"), metadata.get("traceparent")
        self.timeout_s: float | None = None
        encoding = metadata.get("grpc-encoding", "identity")
        self.compression = None if encoding == "identity" else encoding
        self.refused_as, self.refusal = self._refusal(request)
        if self.refusal is not None:
            self.streams = False

    def _refusal(self, request: Request) -> _Refusal:
        if request.method != b"POST":
            return "405", _NOT_POST
        if not _CONTENT_TYPE.fullmatch(request.fields.get(b"content-type", b"")):
            return "415", _NOT_GRPC
        if self.method is None:
            return grpc.StatusCode.UNIMPLEMENTED.name, _UNKNOWN
        if self.compression not in {None, "gzip", "deflate"}:
            text, accepted = "The compression of the messages is not supported.", ("grpc-accept-encoding", COMPRESSIONS)
            return _refused(grpc.StatusCode.UNIMPLEMENTED, text, accepted)
        return self._read_timeout(request.fields.get(b"grpc-timeout"))

    def _read_timeout(self, given: bytes | None) -> _Refusal:
        """Read the header ``grpc-timeout``; gives the refusal of a malformed one."""
        if given is None:
            return _NO_REFUSAL
        found = _TIMEOUT.fullmatch(given)
        if found is None:
            text = "The header grpc-timeout is not a number of at most eight digits and one of the letters HMSmun."
            return _refused(grpc.StatusCode.INVALID_ARGUMENT, text)
        self.timeout_s = min(int(found[1]) * _UNITS_S[found[2]], _LONGEST_S)
        return _NO_REFUSAL

    def left(self, passed_s: float) -> timedelta | None:
        """Give the time until the caller's deadline, *passed_s* seconds after the headers arrived."""
        return None if self.timeout_s is None else timedelta(seconds=max(0.0, self.timeout_s - passed_s))


def _refused(status: grpc.StatusCode, text: str, *metadata: tuple[str, str]) -> _Refusal:
    return status.name, trailers_only(status, text, metadata)
