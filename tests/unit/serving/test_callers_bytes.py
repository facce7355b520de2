"""Whatever bytes a caller sends, a decoder gives a value or refuses them as the caller's mistake, in bounded time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.decoders import BINARY_HEAD, LABELS, PLAIN, REFUSALS, V2, decoders, versions

NAMES = (
    "plain JSON",
    "v2 JSON",
    "v2 binary",
    "v2 header length",
    "gRPC v2 message",
    "gRPC ModelOps message",
    "ZMQ frame",
    "labels",
    "predictions made elsewhere",
    "CSV",
    "compressed body",
)
each_decoder = pytest.mark.parametrize("name", NAMES)
BOUND_S = 5.0
"""For inputs of some thousand bytes, on a busy machine."""
DEEP = [b"[" * depth + b"]" * depth for depth in (65, 500, 990, 100_000)]
ODD = (
    *(b"\xc2\xb2", b'"\\u0000"', b"true", b"null", b"-0", b"1e999", b"NaN", b"-Infinity", b"1" * 4300, b"1" * 5000),
    *(b"18446744073709551616", b"-9223372036854775809", b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"'),
    *(b'"\\ud800"', b'"\\udc00"', b'"2026-01-01"', b'"\xc2\xb2"', b"[]", b"{}", b"[[]]", b'[{"":{}}]', b"[true]"),
    *(
        b'{"a":' * 480 + b"1" + b"}" * 480,
        b"1.5",
        b'""',
        b'"' + b"x" * 100_000 + b'"',
        b"[" + b"65," * 65 + b"65]",
        b'{"a":1,"a":2}',
        *DEEP[:3],
    ),
)
"""Values of JSON that somebody somewhere does not expect."""
FRAGMENTS = (
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\\u",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\0",
        b"\n",
        b"\r",
        b"e",
        b".",
        b"-",
    ),
    *(
        b'"records"',
        b'"inputs"',
        b'"instances"',
        b'"payload"',
        b'"dataframe_split"',
        b'"columns"',
        b'"data"',
        b'"shape"',
    ),
    *(b'"datatype"', b'"parameters"', b'"binary_data_size"', b'"key"', b'"event_time"', b'"version"', b'"model"', *ODD),
)


@pytest.fixture(scope="module")
def known():
    with versions() as loaded:
        yield decoders(loaded)


def read(decoder, body):
    """Hold the property for one body."""
    began = time.monotonic()
    with suppress(*REFUSALS):
        decoder.read(body)
    assert time.monotonic() - began < BOUND_S, body[:200]


def test_every_decoder_is_named(known):
    """The names by which tests are told apart are those of the table."""
    assert tuple(known) == NAMES


@each_decoder
def test_seeds_are_read(known, name):
    """What the fuzzers start from is taken, so that they reach what lies behind."""
    taken = 0
    for seed in known[name].seeds:
        try:
            known[name].read(seed)
            taken += 1
        except REFUSALS:
            continue
    assert taken


def values(body):
    """*body* with each of its values replaced by each odd one."""
    text = body.decode("latin-1")
    for mark in (':"', ": ", "[", ", ", ":"):
        start = 0
        while (place := text.find(mark, start)) >= 0:
            start = place + len(mark)
            end = min((at for sign in ",]}" if (at := text.find(sign, start)) >= 0), default=len(text))
            for odd in ODD:
                yield (text[:start] if mark != ':"' else text[: start - 1]).encode("latin-1") + odd + body[end:]


@pytest.mark.parametrize(
    ("name", "bodies"),
    [
        ("plain JSON", PLAIN),
        ("v2 JSON", (*V2, BINARY_HEAD)),
        ("ZMQ frame", [b'{"type": "inference_request", "request_id": 1, "data": %b}' % body for body in PLAIN]),
        ("labels", [b"\0" + LABELS[0], b"\0" + LABELS[1]]),
        ("predictions made elsewhere", None),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_odd_values_at_every_place(known, name, bodies):
    """Huge and Unicode digits, times beyond the calendar, lists for names, 65 axes: at each place of each body."""
    decoder = known[name]
    for body in bodies or decoder.seeds:
        for changed in values(body):
            read(decoder, changed)
    for body in (*DEEP, *ODD, b"", b"\xff\xfe", b'{"a":' * 500 + b"1" + b"}" * 500):
        read(decoder, body)


mutated = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=30).map(b"".join),
)


@st.composite
def changed(draw, seeds):
    """A seed with some of its parts replaced, or something else altogether."""
    body = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 40)))
        body = body[:start] + draw(mutated) + body[end:]
    return body


SETTINGS = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))


def drive(decoder, chosen):
    """Hold the property for as many bodies as the settings *chosen* say."""

    @given(changed(decoder.seeds))
    def check(body):
        read(decoder, body)

    chosen(check)()


@each_decoder
def test_random_bytes(known, name):
    """Seeds that were changed at random, and random bytes."""
    drive(known[name], settings(SETTINGS, max_examples=150, derandomize=True))


@pytest.mark.soak
@each_decoder
def test_random_bytes_for_long(known, name, soak_seconds):
    """The same with hypothesis for a share of the time, over and over with other chances."""
    end = time.monotonic() + soak_seconds / len(NAMES)
    while time.monotonic() < end:
        drive(known[name], settings(SETTINGS, max_examples=2_000))


@pytest.mark.soak
@each_decoder
def test_guided_bytes_for_long(name, soak_seconds, tmp_path):
    """The same with atheris, which looks for inputs that reach new lines of a decoder, for a share of the time."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed; it has wheels for Linux only")
    seconds = max(10, round(soak_seconds / len(NAMES)))
    command = [sys.executable, "-W", "ignore", "-m", "support.fuzz", name, str(seconds), str(tmp_path)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=seconds + 300
    )
    broken = [path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith(("crash", "timeout", "oom"))]
    assert done.returncode == 0, f"{broken}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
