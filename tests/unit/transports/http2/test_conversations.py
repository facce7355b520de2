"""The library h2 as client: whatever the order, the sizes and the windows are, every request gets its own answer."""

from __future__ import annotations

import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from support.http2 import HEADERS, H2Client, Link

CHUNKS = st.lists(st.integers(1, 40_000), min_size=1, max_size=6)
REQUESTS = st.lists(st.tuples(st.integers(0, 150_000), st.integers(1, 16_384), st.booleans()), min_size=1, max_size=6)


def body_of(number: int, size: int) -> bytes:
    return bytes((number * 7 + place // 251) % 256 for place in range(0, size, 64)) * 64


class Sender:
    """Sends one request in parts, as far as the windows allow."""

    def __init__(self, client: H2Client, number: int, size: int, part: int, path: str) -> None:
        self.client, self.body, self.part, self.place = client, body_of(number, size)[:size], part, 0
        self.id = client.h2.get_next_available_stream_id()
        headers = [*HEADERS[:2], (":path", path), *HEADERS[3:]]
        client.h2.send_headers(self.id, headers, end_stream=not size)
        self.ended = not size

    def go_on(self) -> None:
        room = min(self.part, self.client.h2.local_flow_control_window(self.id), len(self.body) - self.place)
        if self.ended or room <= 0:
            return
        self.client.h2.send_data(self.id, self.body[self.place : self.place + room])
        self.place += room
        if self.place == len(self.body):
            self.client.h2.end_stream(self.id)
            self.ended = True


@settings(max_examples=40, deadline=None)
@given(requests=REQUESTS, chunks=CHUNKS, window=st.integers(1, 200_000), order=st.randoms(use_true_random=False))
def test_every_request_gets_its_answer(loop_of_examples, requests, chunks, window, order):
    """Bodies and answers of any size, in parts and interleaved, over windows down to one byte, arrive unchanged."""
    link = Link(loop_of_examples)
    client = H2Client(link)
    client.h2.initiate_connection()
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    senders = [
        Sender(client, place, size, part, "/streams" if streams else "/echo")
        for place, (size, part, streams) in enumerate(requests)
    ]
    for turn in range(200_000):
        order.choice(senders).go_on()
        for sender in senders if turn % 3 else ():
            sender.go_on()
        data = client.h2.data_to_send()
        step = chunks[turn % len(chunks)]
        link.receive(*(data[place : place + step] for place in range(0, len(data), step)))
        client.listen()
        order.shuffle(client.unread)
        for number, size in client.unread:
            client.h2.acknowledge_received_data(size, number)
            if number not in client.ended and size and client.h2.streams[number].inbound_flow_control_window < 1000:
                client.h2.increment_flow_control_window(5_000, number)
        client.unread.clear()
        if len(client.ended) == len(senders):
            break
    assert {sender.id: sender.body for sender in senders} == {
        sender.id: bytes(client.bodies.get(sender.id, b"")) for sender in senders
    }
    assert client.resets == {}
    assert link.shared.streams == link.shared.body_bytes == 0
