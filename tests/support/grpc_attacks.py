"""What hostile clients send to a gRPC door, as a table: frames, header blocks, floods, windows and messages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mendel.protos import open_inference_pb2 as pb
from support.http2_wire import (
    ACK,
    CALL,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    SETTINGS,
    TABLE_SIZE,
    Seen,
    block,
    call,
    data,
    fields,
    frame,
    headers,
    integer,
    message,
    reset,
    settings,
    window,
)

OK, INVALID, DEADLINE, NOT_FOUND, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 4, 5, 8, 12, 13
CLOSED, RESET, LIVES, REFUSED = "closed", "reset", "lives", "refused"
"""The connection is closed; stream 1 is reset; a further call on the connection is answered; such a call is refused."""
HALF_CLOSE = "half-close"
"""Instead of bytes: the attacker ends its side of the connection."""
Step = bytes | str | Callable[[], object]
"""Bytes to send, HALF_CLOSE, or a condition to wait for."""
MANY = 20_000
BIG = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class Attack:
    """
    What is sent behind the preface and empty settings.

    Attributes:
        ends: How it may end: CLOSED, RESET, LIVES, the gRPC status of stream 1, or the HTTP status as text.
        greets: Whether preface and settings go ahead.
        patient: Whether the attack ends before any time limit; for others the limits are short.
        polite: Whether settings and pings of the server are acknowledged.
    """

    sends: Callable[[Seen], Iterable[Step]]
    ends: tuple[str | int, ...]
    greets: bool = True
    patient: bool = True
    polite: bool = True


def request(values: int = 3, **given: object) -> bytes:
    """A serialised request to the model "sum" for one row."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, values])
    tensor.contents.fp64_contents.extend([1.0] * values)
    return pb.ModelInferRequest(**{"model_name": "sum", "inputs": [tensor], **given}).SerializeToString()


GOOD = request()
ROW = call(GOOD)
WHOLE = data(message(GOOD))
HALF = data(message(GOOD)[:20], last=False)


def gzipped(body: bytes) -> bytes:
    return headers(fields((b"grpc-encoding", b"gzip"))) + data(message(body, flag=1))


def within_blocks(payload: bytes, *, before: bytes) -> Iterator[bytes]:
    """A header block that goes on and on."""
    yield before
    for _ in range(MANY // 20):
        yield frame(CONTINUATION, payload, stream=1) * 20


def rapid_resets(behind: bytes) -> Iterator[bytes]:
    for number in range(1, 2 * MANY, 2):
        yield headers(stream=number) + data(behind, stream=number) * bool(behind) + reset(number)


def header_bomb(_: Seen) -> Iterator[bytes]:
    """One entry of the table, named again and again: 20 KB become 60 MB."""
    yield headers(more=block([(b"x", b"y" * 3_000)], kept=True))
    for number in (3, 5, 7):
        more = [frame(CONTINUATION, b"\xbe" * 10_000, flags=flags, stream=number) for flags in (0, END_HEADERS)]
        yield headers(stream=number, flags=0) + b"".join(more)


def held_answers(_: Seen) -> Iterator[bytes]:
    """Two hundred answers of 256 KiB that nobody takes."""
    yield settings((FIRST_WINDOW, 0))
    body = request(id="x" * (1 << 18))
    for number in range(1, 401, 2):
        yield call(body, stream=number)


def beyond_windows(seen: Seen) -> Iterator[Step]:
    """DATA for which the server gave no window, in one piece."""
    yield lambda: seen.greeted
    room = min(seen.settings.get(FIRST_WINDOW, 65_535), 65_535 + seen.window)
    yield headers() + data(bytes(room + (1 << 17)), last=False)


def many_streams(seen: Seen) -> Iterator[Step]:
    """Calls without an end, more than the server takes on one connection."""
    yield lambda: seen.greeted
    for number in range(1, 2 * min(seen.settings.get(3, MANY), MANY) + 201, 2):
        yield headers(stream=number)


def odd_settings(key: int, value: int) -> Attack:
    return Attack(sends=lambda _: [settings((key, value)) + ROW], ends=(CLOSED,))


def sent(*steps: Step, ends: tuple[str | int, ...], **given: bool) -> Attack:
    """An attack that does not depend on the server."""
    return Attack(sends=lambda _: steps, ends=ends, **given)


def flood(piece: bytes, *, before: bytes = b"") -> Attack:
    """A frame that costs the attacker nothing, sent many times without looking at what comes back."""
    return Attack(sends=lambda _: [before, *[piece * 100] * (MANY // 100)], ends=(CLOSED,), polite=False)


FLOODS = {
    "rapid reset": Attack(sends=lambda _: rapid_resets(b""), ends=(CLOSED,)),
    "rapid reset of whole calls": Attack(sends=lambda _: rapid_resets(message(GOOD)), ends=(CLOSED, LIVES)),
    "CONTINUATION": Attack(
        sends=lambda _: within_blocks(block([(b"x", b"y" * 99)]), before=headers(flags=0)), ends=(CLOSED,), polite=False
    ),
    "empty CONTINUATION": Attack(
        sends=lambda _: within_blocks(b"", before=headers(flags=0)), ends=(CLOSED,), polite=False
    ),
    "header bomb": Attack(sends=header_bomb, ends=(CLOSED, LIVES)),
    "SETTINGS": flood(settings((FIRST_WINDOW, 65_535))),
    "PING": flood(frame(PING, bytes(8))),
    "empty DATA": flood(frame(DATA, stream=1), before=headers()),
    "PRIORITY": flood(frame(PRIORITY, bytes(5), stream=1)),
    "WINDOW_UPDATE of one byte": flood(window(1)),
    "unknown frames": flood(frame(0x77, b"x")),
    "streams without an end": Attack(sends=many_streams, ends=(CLOSED, REFUSED), polite=False),
    "answers that nobody takes": Attack(sends=held_answers, ends=(CLOSED, RESET), patient=False),
}
FRAMES = {
    "larger than MAX_FRAME_SIZE": sent(headers() + frame(DATA, b"x", stream=1, length=(1 << 24) - 1), ends=(CLOSED,)),
    "DATA on no stream": sent(frame(DATA, b"x"), ends=(CLOSED,)),
    "DATA on an idle stream": sent(frame(DATA, b"x", stream=5), ends=(CLOSED,)),
    "DATA beyond the end": sent(ROW + frame(DATA, b"x", stream=1), ends=(CLOSED, RESET, LIVES)),
    "DATA beyond the windows": Attack(sends=beyond_windows, ends=(CLOSED, RESET, LIVES)),
    "padding longer than DATA": sent(headers() + frame(DATA, b"\xffx", flags=PADDED, stream=1), ends=(CLOSED,)),
    "padding longer than HEADERS": sent(
        frame(HEADERS, b"\xff" + block(CALL), flags=PADDED | END_HEADERS, stream=1), ends=(CLOSED,)
    ),
    "PADDED without length": sent(headers() + frame(DATA, b"", flags=PADDED, stream=1), ends=(CLOSED,)),
    "HEADERS on no stream": sent(headers(stream=0), ends=(CLOSED,)),
    "HEADERS on an even stream": sent(headers(stream=2), ends=(CLOSED,)),
    "HEADERS on a lower stream": sent(call(GOOD, stream=5) + call(GOOD, stream=3), ends=(CLOSED,)),
    "HEADERS on a stream that ended": Attack(
        sends=lambda seen: [ROW, lambda: seen.grpc() is not None, headers()], ends=(CLOSED, LIVES)
    ),
    "HEADERS that depend on themselves": sent(
        frame(HEADERS, (1).to_bytes(4, "big") + b"\0" + block(CALL), flags=END_HEADERS | PRIORITISED, stream=1) + WHOLE,
        ends=(CLOSED, RESET, OK),
    ),
    "HEADERS with a priority": sent(
        frame(HEADERS, bytes(4) + b"\x0f" + block(CALL), flags=END_HEADERS | PRIORITISED, stream=1) + WHOLE, ends=(OK,)
    ),
    "PRIORITY before all": sent(frame(PRIORITY, bytes(5), stream=3) * 5 + ROW, ends=(OK,)),
    "PRIORITY of four bytes": sent(frame(PRIORITY, bytes(4), stream=1) + ROW, ends=(CLOSED, RESET)),
    "CONTINUATION without HEADERS": sent(frame(CONTINUATION, block(CALL), flags=END_HEADERS, stream=1), ends=(CLOSED,)),
    "a frame within a header block": sent(headers(flags=0) + frame(PING, bytes(8)), ends=(CLOSED,)),
    "CONTINUATION of another stream": sent(
        headers(flags=0) + frame(CONTINUATION, flags=END_HEADERS, stream=3), ends=(CLOSED,), polite=False
    ),
    "PUSH_PROMISE": sent(frame(PUSH_PROMISE, bytes(4) + block(CALL), flags=END_HEADERS, stream=1), ends=(CLOSED,)),
    "RST_STREAM of an idle stream": sent(reset(7), ends=(CLOSED,)),
    "RST_STREAM of three bytes": sent(headers() + frame(3, bytes(3), stream=1), ends=(CLOSED,)),
    "RST_STREAM in the middle": sent(headers() + HALF + reset(), ends=(LIVES,)),
    "PING of seven bytes": sent(frame(PING, bytes(7)), ends=(CLOSED,)),
    "PING on a stream": sent(frame(PING, bytes(8), stream=1), ends=(CLOSED,)),
    "GOAWAY, then a call": sent(frame(GOAWAY, bytes(8)) + ROW, ends=(OK, CLOSED)),
    "an unknown frame": sent(frame(0x99, b"x" * 99, flags=0xFF, stream=77) + ROW, ends=(OK,)),
    "SETTINGS of five bytes": sent(frame(SETTINGS, bytes(5)), ends=(CLOSED,)),
    "SETTINGS on a stream": sent(frame(SETTINGS, stream=1), ends=(CLOSED,)),
    "an acknowledgement with settings": sent(frame(SETTINGS, bytes(6), flags=ACK), ends=(CLOSED,)),
    "ENABLE_PUSH of 2": odd_settings(ENABLE_PUSH, 2),
    "a first window of 2^31": odd_settings(FIRST_WINDOW, 1 << 31),
    "MAX_FRAME_SIZE of 1": odd_settings(MAX_FRAME, 1),
    "a table of 2^32 - 1": sent(settings((TABLE_SIZE, (1 << 32) - 1)) + ROW, ends=(OK,)),
    "unknown settings": sent(settings((0x7777, 1)) + ROW, ends=(OK,)),
}
WINDOWS = {
    "the connection's window too large": sent(window(BIG), ends=(CLOSED,)),
    "a stream's window too large": sent(headers() + window(BIG, 1), ends=(CLOSED, RESET)),
    "0 for the connection": sent(window(0), ends=(CLOSED,)),
    "0 for a stream": sent(headers() + window(0, 1), ends=(CLOSED, RESET)),
    "for an idle stream": sent(window(1, 9), ends=(CLOSED,)),
    "one byte after the other": Attack(
        sends=lambda seen: [settings((FIRST_WINDOW, 1)) + ROW, lambda: seen.sizes[1], *[window(1, 1)] * 400], ends=(OK,)
    ),
    "first large, then negative": sent(
        ROW + settings((FIRST_WINDOW, 0)) + settings((FIRST_WINDOW, 65_535)) + call(GOOD, stream=3), ends=(OK,)
    ),
}
BLOCKS = {
    "index 0": sent(headers((), more=b"\x80"), ends=(CLOSED,)),
    "an index without entry": sent(headers((), more=integer(2_000, 7, 0x80)), ends=(CLOSED,)),
    "an integer without end": sent(headers((), more=b"\xff" * 200), ends=(CLOSED,)),
    "a table update of 2^30": sent(headers((), more=integer(1 << 30, 5, 0x20)), ends=(CLOSED,)),
    "a thousand table updates": sent(
        frame(HEADERS, b"\x20\x3f\xe1\x1f" * 500 + block(CALL), flags=END_HEADERS, stream=1) + WHOLE, ends=(CLOSED, OK)
    ),
    "a table update behind headers": sent(headers(more=b"\x20"), ends=(CLOSED, RESET, LIVES)),
    "bad Huffman padding": sent(headers((), more=b"\0\x81\x00\x81\x00"), ends=(CLOSED,)),
    "a text that is cut off": sent(headers((), more=b"\0\x05ab"), ends=(CLOSED,)),
    "no headers": sent(headers(()), ends=(CLOSED, RESET)),
    "no :path": sent(headers(fields(without=[b":path"])) + WHOLE, ends=(CLOSED, RESET, UNIMPLEMENTED)),
    "no :method": sent(headers(fields(without=[b":method"])) + WHOLE, ends=(CLOSED, RESET)),
    "two :path": sent(headers((*CALL[:3], CALL[2], *CALL[3:])) + WHOLE, ends=(CLOSED, RESET)),
    "an unknown pseudo header": sent(headers(((b":x", b"y"), *CALL)) + WHOLE, ends=(CLOSED, RESET)),
    "a pseudo header behind others": sent(headers((*CALL[4:], *CALL[:4])) + WHOLE, ends=(CLOSED, RESET)),
    "upper case": sent(headers(fields((b"X-Key", b"y"))) + WHOLE, ends=(CLOSED, RESET)),
    "a name with a space": sent(headers(fields((b"x y", b"z"))) + WHOLE, ends=(CLOSED, RESET)),
    "a value with a line end": sent(headers(fields((b"x", b"y\r\nz: 1"))) + WHOLE, ends=(CLOSED, RESET)),
    "connection: close": sent(headers(fields((b"connection", b"close"))) + WHOLE, ends=(CLOSED, RESET)),
    "te: gzip": sent(headers(fields((b"te", b"gzip"))) + WHOLE, ends=(CLOSED, RESET)),
    "trailers with a pseudo header": sent(
        headers() + HALF + headers(((b":path", b"/x"),), flags=END_HEADERS | END_STREAM), ends=(CLOSED, RESET)
    ),
    "trailers without an end": sent(headers() + HALF + headers(((b"x", b"y"),)), ends=(CLOSED, RESET)),
    "content-length too large": sent(headers(fields((b"content-length", b"9999"))) + WHOLE, ends=(CLOSED, RESET)),
    "content-length too small": sent(headers(fields((b"content-length", b"1"))) + WHOLE, ends=(CLOSED, RESET)),
    "content-length no number": sent(headers(fields((b"content-length", b"+5"))) + WHOLE, ends=(CLOSED, RESET)),
    "70 KB of headers": sent(
        *[headers(fields((b"x", b"y" * 10_000)), flags=0)],
        *[frame(CONTINUATION, block([(b"x", b"y" * 12_000)]), stream=1)] * 5,
        frame(CONTINUATION, flags=END_HEADERS, stream=1),
        ends=(CLOSED, RESET, EXHAUSTED),
        polite=False,
    ),
}
CONNECTIONS = {
    "another preface": sent(PREFACE.replace(b"SM", b"XX"), ends=(CLOSED,), greets=False),
    "HTTP/1.1": sent(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", ends=(CLOSED,), greets=False),
    "an upgrade to h2c": sent(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
        ends=(CLOSED,),
        greets=False,
    ),
    "TLS": sent(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(40), ends=(CLOSED,), greets=False),
    "no settings": sent(PREFACE + frame(PING, bytes(8)), ends=(CLOSED,), greets=False),
    "half-closed behind a call": sent(ROW, HALF_CLOSE, ends=(OK, CLOSED)),
    "half-closed in a call": sent(headers() + HALF, HALF_CLOSE, ends=(CLOSED,)),
    "half-closed at once": sent(HALF_CLOSE, ends=(CLOSED,), greets=False),
    "silence": sent(ends=(CLOSED,), greets=False, patient=False),
    "half a preface": sent(PREFACE[:9], ends=(CLOSED,), greets=False, patient=False),
    "half a frame": sent(frame(PING, bytes(8))[:12], ends=(CLOSED,), patient=False),
    "a header block without end": sent(headers(flags=0), ends=(CLOSED,), patient=False, polite=False),
    "a message without end": sent(headers() + HALF, ends=(CLOSED, RESET, DEADLINE), patient=False),
}
MESSAGES = {
    "none": sent(headers() + data(b""), ends=(INTERNAL, UNIMPLEMENTED, INVALID)),
    "none, in HEADERS": sent(headers(flags=END_HEADERS | END_STREAM), ends=(INTERNAL, UNIMPLEMENTED, INVALID)),
    "two": sent(headers() + data(message(GOOD) * 2), ends=(INTERNAL, UNIMPLEMENTED, INVALID)),
    "a prefix that is cut off": sent(headers() + data(b"\0\0\0"), ends=(INTERNAL, INVALID)),
    "cut off": sent(headers() + data(message(GOOD)[:-3]), ends=(INTERNAL, INVALID)),
    "longer than the bound": sent(headers() + data(message(b"x", length=(1 << 32) - 1)), ends=(EXHAUSTED, INVALID)),
    "compressed without encoding": sent(headers() + data(message(GOOD, flag=1)), ends=(INTERNAL, INVALID)),
    "an unknown flag": sent(headers() + data(message(GOOD, flag=7)), ends=(INTERNAL, INVALID)),
    "an unknown encoding": sent(headers(fields((b"grpc-encoding", b"zip"))) + WHOLE, ends=(UNIMPLEMENTED,)),
    "gzip": sent(gzipped(gzip.compress(GOOD)), ends=(OK,)),
    "no gzip": sent(gzipped(GOOD), ends=(INTERNAL, INVALID)),
    "gzip that is cut off": sent(gzipped(gzip.compress(GOOD)[:-9]), ends=(INTERNAL, INVALID)),
    "a gzip bomb": Attack(sends=lambda _: [gzipped(gzip.compress(bytes(200 << 20), 1))], ends=(EXHAUSTED, INTERNAL)),
    "deflate": sent(
        headers(fields((b"grpc-encoding", b"deflate"))) + data(message(zlib.compress(GOOD), flag=1)), ends=(OK,)
    ),
    "no protobuf": sent(call(b"\xff" * 20), ends=(INVALID,)),
    "no UTF-8": sent(call(b"\x0a\x02\xff\xfe"), ends=(INVALID,)),
    "a length beyond the message": sent(call(b"\x0a\xff\xff\xff\xff\x07"), ends=(INVALID,)),
    "a group without end": sent(call(b"\x0b" * 5_000), ends=(INVALID,)),
    "a timeout of nothing": sent(call(GOOD, (b"grpc-timeout", b"0n")), ends=(DEADLINE,)),
    "a timeout of a nanosecond": sent(call(GOOD, (b"grpc-timeout", b"1n")), ends=(DEADLINE,)),
    "a timeout without unit": sent(call(GOOD, (b"grpc-timeout", b"5")), ends=(INTERNAL, INVALID, OK)),
    "a timeout below 0": sent(call(GOOD, (b"grpc-timeout", b"-1S")), ends=(INTERNAL, INVALID, OK)),
    "a timeout of nine digits": sent(call(GOOD, (b"grpc-timeout", b"999999999S")), ends=(INTERNAL, INVALID, OK)),
    "the longest timeout": sent(call(GOOD, (b"grpc-timeout", b"99999999H")), ends=(OK,)),
    "metadata beyond ASCII": sent(call(GOOD, (b"note", b"\xc3\xa4\xff")), ends=(OK, RESET, INTERNAL)),
    "binary metadata": sent(call(GOOD, (b"note-bin", b"AP8")), ends=(OK,)),
    "binary metadata that is none": sent(call(GOOD, (b"note-bin", b"!!")), ends=(OK, INTERNAL, RESET)),
    "a key beyond ASCII": sent(call(GOOD, (b"authorization", b"Bearer \xff\0")), ends=(OK, RESET, INTERNAL)),
    "an odd correlation id": sent(call(GOOD, (b"x-request-id", b"\xff\xfe" * 200)), ends=(OK, RESET, INTERNAL)),
    "an unknown method": sent(call(GOOD, (b":path", b"/inference.GRPCInferenceService/X")), ends=(UNIMPLEMENTED,)),
    "a path without a slash": sent(call(GOOD, (b":path", b"x")), ends=(UNIMPLEMENTED, RESET, CLOSED)),
    "a path of 20 KB": sent(
        headers(fields((b":path", b"/" + b"x" * 15_000))) + WHOLE, ends=(UNIMPLEMENTED, RESET, CLOSED)
    ),
    "GET": sent(call(GOOD, (b":method", b"GET")), ends=(RESET, INTERNAL, UNIMPLEMENTED, "405")),
    "another content type": sent(call(GOOD, (b"content-type", b"text/plain")), ends=(RESET, UNIMPLEMENTED, "415", OK)),
    "an unknown model": sent(call(request(model_name="no\r\nbody")), ends=(NOT_FOUND,)),
    "too few values": sent(call(request(2)), ends=(INVALID,)),
}
ATTACKS = {
    f"{kind}: {name}": attack
    for kind, table in {
        "flood": FLOODS,
        "frame": FRAMES,
        "window": WINDOWS,
        "headers": BLOCKS,
        "connection": CONNECTIONS,
        "message": MESSAGES,
    }.items()
    for name, attack in table.items()
}
"""All attacks by name."""
