"""Frames of HTTP/2 changed at random: their order, heads, payloads, and where they are cut."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from support.http2_wire import HEAD_BYTES

STREAMS = (0, 1, 1, 1, 2, 3, 5, (1 << 31) - 1, 1 << 31)
MOST_BYTES = 1 << 18


def split(sent: bytes) -> list[bytes]:
    """Cut *sent* into frames; what is no whole frame is the last piece."""
    found = []
    while len(sent) >= HEAD_BYTES:
        end = HEAD_BYTES + int.from_bytes(sent[:3], "big")
        found.append(sent[:end])
        sent = sent[end:]
    return [*found, sent] if sent else found


def mutated(seeds: Sequence[Sequence[bytes]], rng: random.Random) -> bytes:
    """Frames of one or two of *seeds*, some of them changed, repeated, dropped or exchanged."""
    frames = [frame for seed in rng.choices(seeds, k=rng.randint(1, 2)) for frame in seed]
    for _ in range(rng.randint(0, 6)):
        if not frames:
            break
        place = rng.randrange(len(frames))
        match rng.randrange(6):
            case 0:
                frames[place:place] = [frames[place]] * rng.choice((1, 2, 50))
            case 1:
                del frames[place]
            case 2:
                other = rng.randrange(len(frames))
                frames[place], frames[other] = frames[other], frames[place]
            case 3:
                frames[place] = _changed_head(frames[place], rng)
            case _:
                frames[place] = _changed_payload(frames[place], rng)
    return b"".join(frames)[:MOST_BYTES]


def _changed_head(frame: bytes, rng: random.Random) -> bytes:
    head, payload = bytearray(frame[:HEAD_BYTES]), frame[HEAD_BYTES:]
    if len(head) < HEAD_BYTES:
        return frame
    match rng.randrange(4):
        case 0:
            head[3] = rng.randrange(12)
        case 1:
            head[4] ^= 1 << rng.randrange(8)
        case 2:
            head[5:9] = rng.choice(STREAMS).to_bytes(4, "big")
        case _:
            head[:3] = rng.choice((0, 1, len(payload) + 1, 1 << 14, (1 << 14) + 1)).to_bytes(3, "big")
    return bytes(head) + payload


def _changed_payload(frame: bytes, rng: random.Random) -> bytes:
    """Change, add or drop some bytes; the head says the new length."""
    payload = bytearray(frame[HEAD_BYTES:])
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(payload))
        match rng.randrange(3):
            case 0:
                payload[place : place + 1] = bytes((rng.randrange(256),))
            case 1:
                payload[place:place] = rng.randbytes(rng.randint(1, 8))
            case _:
                del payload[place : place + rng.randint(1, 8)]
    return len(payload).to_bytes(3, "big") + frame[3:HEAD_BYTES] + bytes(payload)


def parts(sent: bytes, rng: random.Random) -> Iterator[bytes]:
    """Cut *sent* into a few parts at any places."""
    places = sorted(rng.randint(0, len(sent)) for _ in range(rng.randint(0, 3)))
    for start, end in zip([0, *places], [*places, len(sent)], strict=True):
        yield sent[start:end]
