"""Request blocks are decoded as the library decodes them, whatever is kept."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.transports.http2.frames import ConnectionFault, ErrorCode
from mendel.transports.http2.header_blocks import RequestBlocks, encode_block
from mendel.transports.http2.request_headers import MalformedRequest, read_request

PSEUDO = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a")]
NAMES = st.sampled_from([b"a", b"te2", b"x-request-id", b"authorization", b"content-type"])
VALUES = st.sampled_from([b"", b"1", b"application/grpc", b"v" * 60, b"w" * 2000, b"u" * 4100])
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("block"), FIELDS, st.booleans()),
        st.tuples(st.just("size"), st.integers(0, 4096)),
        st.tuples(st.just("again"), st.integers(0, 20)),
    ),
    max_size=30,
)


@given(STEPS)
def test_kept_requests_are_what_a_fresh_decoder_reads(steps):
    """Blocks with and without indexing, changes of the table and equal bytes in other states give equal headers."""
    encoder, reference = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 20)
    blocks = RequestBlocks(1 << 16, lambda _: None)
    lists = []
    for step in steps:
        if step[0] == "size":
            encoder.header_table_size = step[1]
            continue
        if step[0] == "block":
            lists.append(([*((n, v, False) for n, v in PSEUDO), *step[1]], step[2]))
        if not lists:
            continue
        headers, huffman = lists[-1] if step[0] == "block" else lists[step[1] % len(lists)]
        for _ in range(2):
            block = encoder.encode(headers, huffman=huffman)
            expected = read_request(reference.decode(block, raw=True))
            found = blocks.request(block)
            assert (found.path, found.fields, found.size) == (expected.path, expected.fields, expected.size)


def test_a_block_means_something_else_after_the_table_changed():
    """Equal bytes that point into the dynamic table are decoded anew when an entry was added."""
    blocks = RequestBlocks(1 << 16, lambda _: None)
    plain = b"".join(encode_literal(name, value) for name, value in PSEUDO)
    first = plain + encode_literal(b"a", b"1", indexed=True)
    pointing = plain + b"\xbe"  # the newest entry of the dynamic table
    assert blocks.request(first).fields == {b"a": b"1"}
    assert blocks.request(pointing) is blocks.request(pointing)
    assert blocks.request(pointing).fields == {b"a": b"1"}
    blocks.decode(encode_literal(b"b", b"2", indexed=True))
    assert blocks.request(pointing).fields == {b"b": b"2"}


def encode_literal(name, value, *, indexed=False):
    return (b"\x40" if indexed else b"\0") + bytes((len(name),)) + name + bytes((len(value),)) + value


def test_what_is_kept_is_bounded():
    """Neither many blocks nor large ones fill the memory of a connection."""
    blocks = RequestBlocks(1 << 16, lambda _: None)
    plain = b"".join(encode_literal(name, value) for name, value in PSEUDO)
    for number in range(100):
        blocks.request(plain + encode_literal(b"a", b"%d" % number))
    assert len(blocks.known) <= 16
    blocks.request(plain + encode_literal(b"a", b"x" * 100) * 20)
    assert all(len(block) <= 1024 for block in blocks.known)


@pytest.mark.parametrize(
    "block", [b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\xbe", b"\x00\x05ab", b"\x3f\xff\xff\x03"]
)
def test_what_is_no_block_ends_the_connection(block):
    """An index without entry, a text that is cut off, and a table larger than allowed are COMPRESSION_ERROR."""
    with pytest.raises(ConnectionFault) as fault:
        RequestBlocks(1 << 16, lambda _: None).request(block)
    assert fault.value.code is ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize(
    "headers",
    [
        PSEUDO[:2],
        [*PSEUDO, (b":path", b"/b")],
        [*PSEUDO, (b":status", b"200")],
        [(b"a", b"1"), *PSEUDO],
        [*PSEUDO, (b"A", b"1")],
        [*PSEUDO, (b"a b", b"1")],
        [*PSEUDO, (b"a", b"1\n")],
        [*PSEUDO, (b"connection", b"close")],
        [*PSEUDO, (b"te", b"gzip")],
        [*PSEUDO, (b"content-length", b"-1")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"")],
    ],
    ids=lambda headers: str(headers[-1]),
)
def test_malformed_requests_are_refused(headers):
    """A request that breaks a rule of RFC 9113, section 8, is malformed."""
    with pytest.raises(MalformedRequest):
        read_request(headers)


@given(st.lists(st.tuples(st.just(b":status"), st.sampled_from([b"200", b"415", b"503"])), max_size=1), FIELDS)
def test_response_blocks_need_no_table(status, fields):
    """What is encoded is decoded to the same headers by a decoder whose table has no room."""
    headers = [*status, *((name, value) for name, value, _ in fields)]
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    decoder.header_table_size = 0
    assert [tuple(header) for header in decoder.decode(encode_block(headers), raw=True)] == headers
