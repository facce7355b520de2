"""What a peer can cost the server is bounded, in frames, bytes and time; and how a connection ends."""

from __future__ import annotations

import struct
import time

import pytest

from mendel.transports.http2.frames import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    ErrorCode,
    frame,
    reset,
    settings_frame,
    window_update,
)
from mendel.transports.http2.stream import Refusal
from support.http2 import Link, request_block

BLOCK = request_block(b"/held")
OPEN = frame(HEADERS, 0x4, 1, BLOCK)
CALM = struct.pack(">L", ErrorCode.ENHANCE_YOUR_CALM)
FLOODS = {
    "SETTINGS": settings_frame(()),
    "settings": settings_frame([(3, 1)] * 100),
    "PING": frame(PING, 0, 0, bytes(8)),
    "acknowledged PING": frame(PING, 1, 0, bytes(8)),
    "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)),
    "unknown frames": frame(0x99, 0, 0),
    "WINDOW_UPDATE of the connection": window_update(0, 1),
    "WINDOW_UPDATE of a stream": window_update(1, 1),
    "empty DATA": frame(DATA, 0, 1),
    "padded empty DATA": frame(DATA, 0x8, 1, b"\xff" + bytes(255)),
    "DATA of a byte": frame(DATA, 0, 1, b"x"),
    "resets of a closed stream": reset(1, ErrorCode.CANCEL),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_without_use_are_bounded(make_link, name):
    """Not more than 10,000 at once; then the connection ends with ENHANCE_YOUR_CALM."""
    link = make_link()
    link.receive(OPEN, FLOODS[name] * 5_000, FLOODS[name] * 6_000)
    assert link.frames()[-1][3][4:8] == CALM


def test_rapid_resets_are_bounded_and_their_work_is_cancelled_and_counted(make_link):
    """A stream that is reset stays counted until its work has ended; resets beyond 2,000 at once end the connection."""
    link = make_link(max_streams=100)
    numbers = iter(range(1, 1 << 20, 2))
    for _ in range(150):
        number = next(numbers)
        link.receive(frame(HEADERS, 0x5, number, BLOCK) + reset(number, ErrorCode.CANCEL))
    refused = [number for kind, _, number, payload in link.frames() if kind == RST_STREAM and payload[3] == 7]
    assert len(refused) == 50
    assert link.shared.streams == len(link.echo.cancelled_streams) == 100
    link.echo.let_go()
    assert link.shared.streams == 0
    for _ in range(2_000):
        number = next(numbers)
        link.receive(frame(HEADERS, 0x4, number, BLOCK) + reset(number, ErrorCode.CANCEL))
    assert link.frames()[-1][3][4:8] == CALM


def test_honest_work_earns_control_frames(make_link):
    """A client that acknowledges every answer with window updates and pings is not taken for a flood."""
    link = make_link()
    for number in range(1, 30_001, 2):
        link.connection.data_received(
            frame(HEADERS, 0x4, number, request_block())
            + frame(DATA, 1, number, b"x")
            + window_update(0, 1)
            + window_update(number, 1)
            + frame(PING, 0, 0, bytes(8))
        )
        if number % 1_000 == 1:
            link.sent()
    assert not link.transport.closed


@pytest.mark.parametrize(
    ("given", "taken"), [({"max_streams": 2}, 2), ({"max_all_streams": 2}, 16)], ids=["connection", "server"]
)
def test_streams_beyond_the_limits_are_refused(make_link, given, taken):
    """REFUSED_STREAM, which clients repeat elsewhere, for one connection, and for the whole server beyond 16."""
    link = make_link(**given)
    numbers = range(1, 41, 2)
    link.receive(*(frame(HEADERS, 0x5, number, BLOCK) for number in numbers))
    refused = struct.pack(">L", ErrorCode.REFUSED_STREAM)
    assert link.frames() == [(RST_STREAM, 0, number, refused) for number in numbers[taken:]]


def test_headers_and_bodies_beyond_the_limits_are_refused_by_the_application(make_link):
    """Too large headers, a too large body, and bodies that fill the memory; small bodies are refused last."""
    link = make_link(header_bytes=1_000, body_bytes=200_000, memory_bytes=300_000)
    link.receive(frame(HEADERS, 0x5, 1, request_block(b"/", *[(b"a", b"v" * 100)] * 11)))
    part = bytes(16_000)
    for number in (3, 5, 7):
        link.receive(frame(HEADERS, 0x4, number, BLOCK) + frame(DATA, 0, number, part))
    link.receive(*(frame(DATA, 0, 3, part) for _ in range(12)))
    assert link.echo.refusals == [Refusal.HEADERS_TOO_LARGE, Refusal.BODY_TOO_LARGE]
    link.receive(*(frame(DATA, 0, 5, part) for _ in range(11)), *(frame(DATA, 0, 7, part) for _ in range(8)))
    assert link.echo.refusals[2:] == [Refusal.TOO_MUCH_MEMORY]
    link.receive(frame(HEADERS, 0x4, 9, BLOCK), frame(DATA, 0, 9, part), frame(DATA, 1, 9, part))
    assert [stream.id for stream in link.echo.held] == [9]
    link.receive(frame(DATA, 1, 5, part))
    link.echo.let_go()
    assert link.shared.body_bytes == link.shared.streams == 0


def test_a_peer_that_opens_no_window_costs_one_answer_per_stream(make_link):
    """Answers without a window wait; after the time for bodies their streams are cancelled."""
    link = make_link(body_timeout=5.0)
    link.receive(
        settings_frame([(4, 0)]), *(frame(HEADERS, 0x4, n, request_block()) + frame(DATA, 1, n, b"x") for n in (1, 3))
    )
    now = link.shared.steady()
    link.receive(window_update(1, 1))
    assert [(kind, number) for kind, _, number, _ in link.frames() if kind in {DATA, RST_STREAM}] == [(DATA, 1)]
    link.connection.expire(now + 6)
    assert link.frames() == [(RST_STREAM, 0, 3, struct.pack(">L", ErrorCode.CANCEL))]
    assert link.shared.streams == 0


def test_a_peer_that_does_not_read_is_not_read(make_link):
    """While the transport is full, nothing is read or written; after the time for bodies the connection is cut."""
    link = make_link(body_timeout=5.0)
    link.receive(settings_frame([(4, 1 << 30)]), window_update(0, 1 << 30))
    link.receive(
        frame(HEADERS, 0x4, 1, BLOCK), *(frame(DATA, 0, 1, bytes(16_384)) for _ in range(60)), frame(DATA, 1, 1)
    )
    link.sent()
    link.connection.pause_writing()
    assert link.transport.paused
    link.echo.let_go()
    assert len(link.sent()) < 100
    link.connection.resume_writing()
    assert not link.transport.paused
    assert len(link.sent()) > 60 * 16_384
    link.connection.pause_writing()
    link.connection.expire(link.shared.steady() + 6)
    assert link.transport.aborted


LATE = {
    "nothing": b"",
    "a part of the preface": PREFACE[:9],
    "a part of a frame": PREFACE + settings_frame(()) + OPEN[:12],
    "a part of a header block": PREFACE + settings_frame(()) + frame(HEADERS, 0, 1, BLOCK),
}


@pytest.mark.parametrize("name", LATE)
def test_slow_headers_end_the_connection(loop, name):
    """A preface, a frame or a header block that is not complete in time; bytes that drip in give no more time."""
    link = Link(loop, header_timeout=5.0)
    link.receive(LATE[name])
    now = link.shared.steady()
    link.connection.expire(now + 4)
    assert not link.transport.closed
    link.connection.expire(now + 6)
    assert link.transport.closed


def test_a_slow_body_is_refused(make_link):
    """A body that has not arrived in time is refused by the application; one that has is not."""
    link = make_link(body_timeout=5.0)
    link.receive(OPEN, frame(HEADERS, 0x5, 3, BLOCK))
    link.connection.expire(link.shared.steady() + 6)
    assert link.echo.refusals == [Refusal.BODY_TOO_SLOW]
    assert [stream.id for stream in link.echo.held] == [3]


def test_a_silent_peer_is_asked_and_then_cut(make_link):
    """After 30 s without a byte a PING; after 10 more without one the connection is cut; an answer keeps it."""
    link = make_link()
    now = link.shared.steady()
    link.connection.expire(now + 31)
    ((kind, _, _, payload),) = link.frames()
    assert kind == PING
    link.receive(frame(PING, 1, 0, payload))
    link.connection._now = now + 32  # the answer came then
    link.connection.expire(now + 45)
    assert not link.transport.closed
    link.connection.expire(now + 63)
    link.connection.expire(now + 74)
    assert link.transport.aborted


def ask_to_leave(link):
    """The PING of a connection that drains."""
    *_, (_, _, _, first), (kind, _, _, mark) = link.frames()
    assert (kind, first[:4]) == (PING, b"\x7f\xff\xff\xff")
    return mark


@pytest.mark.parametrize("after", [76, 400])
def test_idle_and_old_connections_are_drained(make_link, after):
    """GOAWAY that names no stream, then GOAWAY with the last one, then the end; streams in flight are answered."""
    link = make_link(idle_timeout=75.0, max_age=300.0)
    if after > 300:
        link.receive(OPEN + frame(DATA, 1, 1, b"x"))
    now = link.shared.steady()
    link.connection.expire(now + after)
    if after > 300:
        link.connection._now = now + after
    mark = ask_to_leave(link)
    link.receive(frame(HEADERS, 0x5, 3, request_block()))
    assert [number for kind, _, number, _ in link.frames() if kind == HEADERS] == [3, 3]
    link.receive(frame(PING, 1, 0, mark))
    assert link.frames()[0] == (GOAWAY, 0, 0, struct.pack(">LL", 3, 0))
    if after > 300:
        link.receive(frame(HEADERS, 0x5, 5, request_block()))
        assert link.frames() == [(RST_STREAM, 0, 5, struct.pack(">L", ErrorCode.REFUSED_STREAM))]
        assert not link.transport.closed
        link.echo.let_go()
        assert (DATA, 0, 1, b"x") in link.frames()
        link.turn()
    assert link.transport.closed


def test_a_drained_connection_that_does_not_end_is_cut(make_link):
    """A request that runs longer than the time for draining loses its connection, and its work is cancelled."""
    link = make_link(drain_timeout=5.0)
    link.receive(frame(HEADERS, 0x5, 1, BLOCK))
    link.connection.drain()
    now = link.shared.steady()
    link.connection.expire(now + 2)
    assert [kind for kind, *_ in link.frames()] == [GOAWAY, PING, GOAWAY]
    link.connection.expire(now + 6)
    assert link.transport.aborted
    link.connection.connection_lost(None)
    assert [stream.id for stream in link.echo.cancelled_streams] == [1]


def test_a_peer_that_half_closes_gets_its_answers(make_link):
    """The end of the peer's side ends the connection when the complete requests are answered."""
    link = make_link()
    link.receive(frame(HEADERS, 0x5, 1, BLOCK))
    assert link.connection.eof_received()
    link.echo.let_go()
    assert [kind for kind, *_ in link.frames()] == [HEADERS, DATA, HEADERS]
    link.turn()
    assert link.transport.closed
    assert not make_link().connection.eof_received()


def test_a_refusal_by_the_headers_is_sent_before_the_body(make_link):
    """The body of a request that is refused by its headers is never held."""
    link = make_link()
    link.receive(frame(HEADERS, 0x4, 1, request_block(b"/refused")))
    assert [kind for kind, _, number, _ in link.frames() if number == 1] == [HEADERS, RST_STREAM]
    link.receive(frame(DATA, 0, 1, bytes(10_000)) * 3)
    assert link.shared.body_bytes == link.shared.streams == 0


def test_many_headers_end_the_connection(make_link):
    """A block of thousands of small fields is refused, though its size is within the bound."""
    link = make_link()
    link.receive(frame(HEADERS, 0x5, 1, request_block(b"/held") + b"\x93" * 300))
    assert link.frames()[-1][3][4:8] == CALM


def test_responses_that_wait_count_as_memory(make_link):
    """Responses behind a closed window are held up to the bound; those beyond are reset, and the count returns to 0."""
    link = make_link(memory_bytes=100_000)
    link.receive(settings_frame([(4, 0)]))
    for number in range(1, 41, 2):
        link.receive(frame(HEADERS, 0x4, number, request_block(b"/echo")), frame(DATA, 0x1, number, bytes(15_000)))
    resets = [number for kind, _, number, payload in link.frames() if kind == RST_STREAM and payload[3] == 11]
    assert len(resets) == 7
    assert link.shared.body_bytes == 13 * 15_000
    for number in range(1, 41, 2):
        if number not in resets:
            link.receive(window_update(number, 20_000), window_update(0, 20_000))
    assert link.shared.body_bytes == link.shared.streams == 0


def test_a_peer_that_takes_a_byte_at_a_time_is_given_up(make_link):
    """Windows of one byte do not keep a response for ever."""
    link = make_link()
    link.receive(settings_frame([(4, 0)]))
    link.receive(frame(HEADERS, 0x4, 1, request_block(b"/echo")), frame(DATA, 0x1, 1, bytes(15_000)))
    for second in range(1, 40):
        link.receive(window_update(1, 1))
        link.connection.expire(time.monotonic() + second)
    assert (RST_STREAM, 1) in {(kind, number) for kind, _, number, _ in link.frames()}


def test_a_connection_with_few_streams_is_served_while_others_hold_too_many(make_link):
    """When all connections together have too many requests, one with fewer than 16 may still open some."""
    link = make_link(max_all_streams=20)
    for number in range(1, 61, 2):
        link.receive(frame(HEADERS, 0x4, number, BLOCK))
    refused = [number for kind, _, number, payload in link.frames() if kind == RST_STREAM and payload[3] == 7]
    assert len(refused) == 10
    other = make_link(beside=link)
    other.receive(frame(HEADERS, 0x4, 1, request_block(b"/echo")), frame(DATA, 0x1, 1, b"x"))
    assert DATA in {kind for kind, _, number, _ in other.frames() if number == 1}


def test_large_headers_count_as_memory(make_link):
    """Requests with headers of 10 KB that wait for their bodies are refused beyond the bound."""
    link = make_link(memory_bytes=100_000)
    block = request_block(b"/held", *((b"x%d" % place, b"y" * 100) for place in range(100)))
    for number in range(1, 81, 2):
        link.receive(frame(HEADERS, 0x4, number, block))
    assert link.echo.refusals
    assert set(link.echo.refusals) == {Refusal.TOO_MUCH_MEMORY}
    assert link.shared.body_bytes < 250_000


def test_open_header_blocks_count_as_memory(make_link):
    """Blocks that do not end are kept up to the bound, over all connections; their memory is free when they end."""
    links = [make_link(memory_bytes=100_000)]
    links += [make_link(beside=links[0]) for _ in range(19)]
    part = frame(HEADERS, 0x1, 1, request_block()) + frame(CONTINUATION, 0, 1, bytes(16_000))
    for link in links:
        link.receive(part)
    assert [link.transport.closed for link in links] == [False] * 12 + [True] * 8
    assert links[0].shared.body_bytes < 200_000
    for link in links:
        link.connection.connection_lost(None)
    assert links[0].shared.body_bytes == 0


def test_a_body_in_parts_is_not_read_for_a_caller_that_may_not_call(make_link):
    """The refusal is sent with the first part, nothing of the body is held, and the rest is ignored."""
    link = make_link()
    link.receive(frame(HEADERS, 0x4, 1, request_block(b"/denied")))
    assert link.frames() == []
    link.receive(frame(DATA, 0, 1, bytes(10_000)) * 3)
    assert [kind for kind, _, number, _ in link.frames() if number == 1] == [HEADERS, RST_STREAM]
    assert link.shared.body_bytes == link.shared.streams == 0


def test_a_window_of_the_connection_moves_only_what_it_has_room_for(make_link):
    """A byte more moves the response that has waited for the longest time; those without a window are not looked at."""
    link = make_link()
    link.receive(settings_frame([(4, 20_000)]))
    numbers = range(1, 21, 2)
    for number in numbers:
        link.receive(frame(HEADERS, 0x4, number, request_block()), frame(DATA, 1, number, bytes(16_000)))
    link.sent()
    assert [list(link.connection._waiting), list(link.connection._stalled)] == [[9, 11, 13, 15, 17, 19], []]
    link.receive(window_update(0, 1))
    assert [(kind, number, len(part)) for kind, _, number, part in link.frames()] == [(DATA, 9, 1)]
    assert list(link.connection._waiting) == [11, 13, 15, 17, 19, 9]
    link.receive(settings_frame([(4, 0)]), window_update(0, 100_000))
    assert [list(link.connection._waiting), sorted(link.connection._stalled)] == [[], [9, 11, 13, 15, 17, 19]]
    link.receive(settings_frame([(4, 20_000)]))
    assert link.shared.body_bytes == link.shared.streams == 0


def test_the_last_stream_of_goaway_never_grows(make_link):
    """Streams that are opened behind the last call are refused, and a later GOAWAY names none of them."""
    link = make_link()
    link.receive(frame(HEADERS, 0x5, 1, BLOCK))
    link.connection.drain()
    link.receive(frame(PING, 1, 0, ask_to_leave(link)))
    link.receive(frame(HEADERS, 0x5, 3, BLOCK), frame(PING, 0, 1, bytes(8)))
    frames = link.frames()
    assert (RST_STREAM, 0, 3, struct.pack(">L", ErrorCode.REFUSED_STREAM)) in frames
    last = [struct.unpack_from(">L", payload)[0] for kind, _, _, payload in frames if kind == GOAWAY]
    assert last == [1, 1]
