"""Decode gRPC messages; what cannot be decoded or has too many fields gets a status that blames the caller."""

from __future__ import annotations

from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from mendel.errors import TooLarge
from mendel.transports.grpc.message_size import check_message_size

M = TypeVar("M", bound=Message)


class MessageRefused(Exception):
    """A message is not taken, with the status and the text for the caller."""

    def __init__(self, status: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def read_message(kind: type[M], data: bytes | memoryview) -> M:
    """
    Decode a message of the type *kind*.

    A message with too many fields is not decoded, because each field may cost far more memory than its bytes; the
    status is RESOURCE_EXHAUSTED, as for a message with too many bytes.

    Raises:
        MessageRefused: The message has too many fields, or cannot be decoded.
    """
    try:
        check_message_size(data)
        return kind.FromString(data)  # type: ignore[arg-type]  # the stubs know bytes only
    except DecodeError:
        text = "The message is not of the type that the method takes."
        raise MessageRefused(grpc.StatusCode.INVALID_ARGUMENT, text) from None
    except TooLarge as error:
        raise MessageRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
