"""Decompress gRPC messages, with a limit on the decompressed size."""

from __future__ import annotations

import grpc

from mendel.errors import InvalidRequest, TooLarge, UnsupportedContent
from mendel.transports.content_encoding import decompressed
from mendel.transports.grpc.messages import MessageRefused


def decompress(message: bytes | memoryview, compression: str | None, most_bytes: int) -> bytes:
    """
    Give the content of a compressed *message*.

    Raises:
        MessageRefused: The message is not compressed as *compression* says, or has more than *most_bytes*.
    """
    if compression is None:
        text = "A message is compressed, but the header grpc-encoding names no compression."
        raise MessageRefused(grpc.StatusCode.INVALID_ARGUMENT, text)
    try:
        return decompressed(bytes(message), compression, most_bytes)
    except TooLarge:
        text = f"The decompressed message has more than {most_bytes} bytes."
        raise MessageRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, text) from None
    except (InvalidRequest, UnsupportedContent):
        text = f"The message is not valid {compression} data."
        raise MessageRefused(grpc.StatusCode.INVALID_ARGUMENT, text) from None
