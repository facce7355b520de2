"""A request with too many values is refused before the values become objects, and no decoder's time is quadratic."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.errors import InvalidRequest, TooLarge
from mendel.serving import Records, check_msgpack_size, infer_signature, parse_csv, read_json
from mendel.serving.entities import Tensor, Tensors
from mendel.serving.input_codec import InputCodec
from mendel.serving.input_contract import InputContract
from mendel.serving.request_size import (
    MAX_NAMES,
    MAX_PARTS,
    MAX_TOKENS,
    MAX_VALUES,
    check_csv_size,
    check_json_size,
)
from mendel.serving.tensors import from_raw
from mendel.transports.rest.v2_bodies import read_request
from mendel.transports.zmq.messages import read_message
from mendel.values import Table

CONTRACT = InputContract.of_signature(infer_signature(Table({name: np.zeros(1) for name in "abc"})))
CODEC = InputCodec(CONTRACT, order=None, max_rows=10_000)
LOOSE = InputCodec(None, order=None, max_rows=10_000)


def many(unit: bytes, count: int) -> bytes:
    return b",".join([unit] * count)


def packed(kind: bytes, count: int, content: bytes) -> bytes:
    """A msgpack message whose data are *content*, announced as *count* elements of an array or map."""
    return b"\x82\xa4type\xa1x\xa4data\x81\xa6inputs" + kind + count.to_bytes(4) + content


BODIES = {
    "rows": b'{"records":[%b]}' % many(b"{}", MAX_PARTS + 1),
    "lists": b"[%b]" % many(b"[]", MAX_PARTS + 1),
    "values": b'{"instances":[[%b]]}' % many(b"0", MAX_TOKENS + 1),
    "texts": b'{"instances":[[%b]]}' % many(b'""', MAX_TOKENS + 1),
    "keys": b"{%b}" % many(b'"":0', MAX_NAMES + 1),
}
CSV = {
    "cells": b"," * (MAX_TOKENS + 1),
    "lines": b"a\n" + b"\n" * MAX_TOKENS,
    "rows": b"a\n" + b"1\n" * 10_001,
}
FRAMES = {
    "lists": packed(b"\xdd", MAX_PARTS + 1, b"\x90" * (MAX_PARTS + 1)),
    "maps": packed(b"\xdd", MAX_PARTS + 1, b"\x80" * (MAX_PARTS + 1)),
    "values": packed(b"\xdd", MAX_TOKENS + 1, b"\1" * (MAX_TOKENS + 1)),
    "announced values": packed(b"\xdd", 2**32 - 1, b"\1" * MAX_PARTS),
    "keys": packed(b"\xdf", MAX_NAMES + 1, b"\xa0\1" * (MAX_NAMES + 1)),
    "long texts": packed(b"\xdd", MAX_PARTS + 1, b"\xd9\0" * (MAX_PARTS + 1)),
}


@pytest.mark.parametrize("name", BODIES)
def test_json_with_too_many_values_is_refused(name):
    """Plain JSON, v2 JSON and a ZMQ frame of JSON are refused by the number of their values."""
    with pytest.raises(TooLarge, match="more than"):
        read_json(BODIES[name])
    with pytest.raises(TooLarge, match="more than"):
        read_json(BODIES[name].decode())
    with pytest.raises(TooLarge, match="more than"):
        read_request(b'{"inputs":%b}' % BODIES[name], None)
    with pytest.raises(TooLarge, match="more than"):
        read_message(b'{"type":"inference_request","data":{"inputs":%b}}' % BODIES[name])


@pytest.mark.parametrize("name", CSV)
def test_csv_with_too_many_values_is_refused(name):
    """CSV is refused by the number of its cells, of its lines and of its rows."""
    with pytest.raises(TooLarge):
        parse_csv(CSV[name], None, max_rows=10_000)


@pytest.mark.parametrize("name", FRAMES)
def test_msgpack_with_too_many_values_is_refused(name):
    """A frame of msgpack is refused by its lists, its keys and the values that its lists announce."""
    with pytest.raises(TooLarge):
        read_message(FRAMES[name])


def test_the_largest_allowed_request_is_accepted_in_every_form():
    """10,000 rows of 1,000 values are not too large because of brackets, a header line or line ends."""
    rows, columns = 10_000, 1_000
    row = many(b"0", columns)
    check_json_size(b'{"instances":[%b]}' % many(b"[%b]" % row, rows))
    tensor = b'{"inputs":[{"name":"a","shape":[%d,%d],"datatype":"FP64","data":[%b]}]}'
    check_json_size(tensor % (rows, columns, many(row, rows)))
    for end in (b"\n", b"\r\n", b"\r"):
        check_csv_size((row + end) * (rows + 1))
    packed_row = b"\xdc" + columns.to_bytes(2) + b"\1" * columns
    check_msgpack_size(packed(b"\xdd", rows, packed_row * rows))


@pytest.mark.parametrize("end", [b"\xc1", b"\xcb\1", b"\xdd\1"], ids=repr)
def test_msgpack_that_ends_early_is_refused(end):
    """A large frame that ends within a value, or contains a byte without a meaning, is the caller's mistake."""
    with pytest.raises(InvalidRequest):
        read_message(packed(b"\xdd", MAX_PARTS, b"\1" * (MAX_PARTS - 1) + end))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_the_size_of_any_msgpack_can_be_read(value):
    """Whatever msgpack contains, the count of its values finds the end of the frame and refuses nothing small."""
    check_msgpack_size(msgspec.msgpack.encode([b"\xc1" * MAX_PARTS, value, msgspec.msgpack.Ext(5, b"\xc1" * 40)]))


def test_a_tensor_is_refused_before_its_values_are_converted():
    """A tensor with more rows, or more elements of text, than allowed is refused by its shape."""
    rows = Tensor(name="a", datatype="INT8", shape=(20_000_000,), values=np.zeros(20_000_000, dtype="i1"))
    with pytest.raises(TooLarge, match="20000000 rows"):
        CODEC.decode(Tensors(tensors=(rows, rows)))
    with pytest.raises(TooLarge):
        from_raw(bytes(4 * (MAX_VALUES + 1)), "BYTES", [MAX_VALUES + 1])
    one = Tensor(name="a", datatype="FP64", shape=(1,), values=[1.0])
    with pytest.raises(InvalidRequest, match="4 inputs; the model takes 3"):
        CODEC.decode(Tensors(tensors=(one,) * 4))


@pytest.mark.parametrize("codec", [CODEC, LOOSE], ids=["contract", "no contract"])
def test_wide_rows_with_other_names_are_refused_at_once(codec):
    """The time to refuse rows of other names grows with the number of names, not with its square."""
    rows = [{f"a{place}": 1 for place in range(50_000)}, {f"b{place}": 1 for place in range(50_000)}]
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="unknown"):
        codec.decode(Records(rows=rows))
    assert time.monotonic() - began < 5
