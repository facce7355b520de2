"""A gRPC message with too many fields is refused before it is decoded."""

from __future__ import annotations

import pytest

from mendel.errors import TooLarge
from mendel.protos import open_inference_pb2 as pb
from mendel.transports.grpc.message_size import check_message_size

MANY = 1_000_001


def field(number: int, content: bytes) -> bytes:
    """A field with a length in four bytes."""
    size = len(content)
    varint = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
    return bytes([number << 3 | 2]) + varint + content


MESSAGES = {
    "inputs": b"\x2a\0" * MANY,
    "raw contents": b"\x3a\0" * MANY,
    "outputs": b"\x32\0" * MANY,
    "texts of an input": field(5, field(5, b"\x42\0" * MANY)),
    "axes of an input": field(5, b"\x18\1" * MANY),
    "fields behind a group": b"\x7b" + b"\x3a\0" * MANY,
    "fields of other numbers": b"\x98\x06\1" * MANY,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_too_many_fields_are_refused(name):
    """Fields are counted at the top, in inputs and in their contents, whatever stands before them."""
    with pytest.raises(TooLarge):
        check_message_size(MESSAGES[name])


def test_large_messages_of_few_fields_pass():
    """Packed numbers, raw contents and long texts are few fields, however large."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 500_000])
    tensor.contents.fp64_contents.extend([1.5] * 500_000)
    tensor.contents.bytes_contents.extend([b"x"] * 1_000)
    request = pb.ModelInferRequest(model_name="m" * 2_000_000, inputs=[tensor], raw_input_contents=[bytes(4_000_000)])
    check_message_size(request.SerializeToString())


@pytest.mark.parametrize("end", [b"\x3a", b"\x3a\xff", b"\x3f", b"\xff" * 11, b"\x3a\xff\xff\xff\xff\x7f"], ids=repr)
def test_a_malformed_message_is_left_to_the_decoder(end):
    """A message that ends within a field, or has no field where one should be, is counted without an error."""
    check_message_size(field(2, bytes(1_500_000)) + end)
