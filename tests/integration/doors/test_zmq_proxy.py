"""To whom the ZMQ proxy hands messages, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
import zmq.asyncio
from msgspec import structs
from zmq.auth import create_certificates, load_certificate

from mendel.errors import InvalidSettings
from mendel.serving import InferenceCall, Kernel, parse_plain, version_counters
from mendel.serving.metrics import BATCHES
from mendel.transports.zmq.encryption import CurveKeys, curve_keys
from mendel.transports.zmq.proxy import ZmqProxy
from mendel.transports.zmq.server import ZmqServer, _Message
from mendel.transports.zmq.worker_rotation import READY
from mendel.values import ModelName

RECORDS = {"records": [{"a": 1.0, "b": 2.0, "c": 3.0}]}


@dataclass
class Server:
    """A proxy with as many workers as a test opens."""

    address: str
    listener: socket.socket
    ports: dict[str, int]

    def proxy(self, *, max_connections: int = 100, keys: CurveKeys | None = None) -> ZmqProxy:
        return ZmqProxy(
            self.listener.dup(), self.address, max_message_bytes=1 << 20, max_connections=max_connections, keys=keys
        )

    def worker(self, kernel: Kernel) -> ZmqServer:
        return ZmqServer(kernel, self.address)


@pytest.fixture
def server(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Server(f"ipc://{tmp_path}/workers", listener, {"zmq": listener.getsockname()[1]})


@pytest.fixture
async def serving(shelf, make_kernel, at):
    """Makes kernels that serve ``sum``."""
    shelf.put("sum", 1)
    async with AsyncExitStack() as stack:

        async def make() -> Kernel:
            kernel = await stack.enter_async_context(make_kernel())
            await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
            return kernel

        yield make


async def test_a_worker_that_is_not_ready_gets_no_message(server, serving, make_kernel, connect):
    """With one worker that serves and one that has loaded nothing, every message is answered by the first."""
    async with server.proxy(), make_kernel() as empty, server.worker(empty):
        client = connect("zmq", server)
        empty.expect({ModelName("sum"): None})
        assert (await client.predict("sum", RECORDS)).error == "unavailable"
        async with server.worker(await serving()):
            while (await client.predict("sum", RECORDS)).error is not None:
                pass
            replies = await asyncio.gather(*(client.predict("sum", RECORDS) for _ in range(60)))
            assert {reply.error for reply in replies} == {None}


@pytest.mark.parametrize(
    "frames", [[bytes(2 << 20)], [b"x"] * 100, [bytes(900_000)] * 3], ids=["size", "frames", "sum"]
)
async def test_a_message_that_is_too_large_gets_an_error(server, serving, connect, frames):
    """A large frame, many frames, and frames that are large together are told so; the connection goes on."""
    context = zmq.asyncio.Context()
    try:
        async with server.proxy(), server.worker(await serving()):
            caller = context.socket(zmq.DEALER)
            caller.connect(f"tcp://127.0.0.1:{server.ports['zmq']}")
            for sent, told in ((frames, b"too_large"), ([b'{"type":"heartbeat"}'], b"heartbeat_ack")):
                await caller.send_multipart(sent)
                assert told in (await asyncio.wait_for(caller.recv_multipart(), 20))[-1]
    finally:
        context.destroy(linger=0)


async def test_messages_that_arrive_together_are_answered_each_on_its_own(server, serving):
    """Of 300 messages at once, right, wrong and of other types, each gets its own reply, from few batches."""
    context = zmq.asyncio.Context()
    kernel = await serving()
    try:
        async with server.proxy(), server.worker(kernel):
            caller = context.socket(zmq.DEALER)
            caller.connect(f"tcp://127.0.0.1:{server.ports['zmq']}")
            for number in range(300):
                row = {"a": float(number), "b": 1.0, "c": "x" if number % 7 == 3 else 1.0}
                message = {
                    "type": "inference_request",
                    "request_id": number,
                    "data": {"model_name": "sum", "inputs": [row]},
                }
                if number % 11 == 5:
                    message["type"] = "heartbeat"
                await caller.send(json.dumps(message).encode())
            for _ in range(300):
                reply = json.loads(await asyncio.wait_for(caller.recv(), 20))
                number = reply["message_id"]
                if number % 11 == 5:
                    assert reply["type"] == "heartbeat_ack"
                elif number % 7 == 3:
                    assert (reply["type"], reply["data"]["code"]) == ("error", "invalid_request")
                    assert "'c'" in reply["data"]["message"]
                else:
                    assert reply["data"].get("predictions") == [number + 2.0], reply
    finally:
        context.destroy(linger=0)
    (batches,) = (cells for line, cells in kernel.counters.totals().items() if line.name == BATCHES.name)
    assert sum(batches[:-1]) < 100


async def test_a_message_waits_for_the_first_worker(server, serving, connect):
    """What comes before a door is open is answered when one is."""
    async with server.proxy():
        client = connect("zmq", server)
        asked = asyncio.create_task(client.predict("sum", RECORDS))
        async with server.worker(await serving()):
            assert (await asked).error is None


async def test_a_worker_that_closes_loses_no_message(server, serving, connect):
    """While workers close and others open, again and again under load, every message is answered."""
    async with server.proxy(), server.worker(await serving()):
        client = connect("zmq", server)
        stop = asyncio.Event()

        async def ask() -> int:
            asked = 0
            while not stop.is_set():
                assert (await client.predict("sum", RECORDS)).error is None
                asked += 1
            return asked

        asking = [asyncio.create_task(ask()) for _ in range(32)]
        for _ in range(10):
            kernel = await serving()
            async with server.worker(kernel):
                while not version_counters(kernel.counters.totals()):
                    assert (await client.predict("sum", RECORDS)).error is None
        stop.set()
        assert all(await asyncio.gather(*asking))


async def test_a_proxy_that_is_started_anew_finds_the_workers(server, serving, connect):
    """Workers tell the next proxy that they are ready."""
    async with AsyncExitStack() as stack:
        async with server.proxy():
            await stack.enter_async_context(server.worker(await serving()))
            assert (await connect("zmq", server).predict("sum", RECORDS)).error is None
        async with server.proxy():
            assert (await connect("zmq", server).predict("sum", RECORDS)).error is None
            await stack.aclose()


@pytest.mark.parametrize("part", ["proxy", "worker"])
async def test_a_part_whose_loop_has_ended_ends(part, server, serving):
    """Where the sockets fail, the process of a proxy or a worker does not go on: its supervisor replaces it."""
    broken = server.proxy() if part == "proxy" else server.worker(await serving())

    async def run() -> None:
        async with broken:
            broken._context.destroy(linger=0)
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(run(), 10)


async def test_the_messages_of_a_worker_that_stops_answering_are_answered(server, connect):
    """A worker that reports once and then hangs: its caller gets ``unavailable`` with a time to come back."""
    context = zmq.asyncio.Context()
    try:
        async with server.proxy():
            hanging = context.socket(zmq.DEALER)
            hanging.connect(server.address)
            await hanging.send(READY)
            reply = await connect("zmq", server).ask("heartbeat")
    finally:
        context.destroy(linger=0)
    assert reply["type"] == "error"
    assert (reply["data"]["code"], reply["data"]["retry_after"]) == ("unavailable", 1.0)


async def test_connections_beyond_the_limit_are_closed(server):
    """A caller beyond ``serving.max_connections`` is closed at once, and those before it stay connected."""
    async with server.proxy(max_connections=2):
        opened = [await asyncio.open_connection("127.0.0.1", server.ports["zmq"]) for _ in range(2)]
        for reader, _ in opened:
            assert await asyncio.wait_for(reader.readexactly(1), 20) == b"\xff"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["zmq"])
        assert await asyncio.wait_for(reader.read(), 20) == b""
        assert not any(reader.at_eof() for reader, _ in opened)
        for _, one in [*opened, (reader, writer)]:
            one.close()


async def test_an_answer_that_has_no_form_fails_its_message_alone(serving):
    """Of a batch in which one answer lacks its probabilities, the other is given, and no message stays open."""
    kernel, sent = await serving(), []
    sock = SimpleNamespace(send_multipart=sent.append)
    bad, good = (_Message(sock, [b"caller"], b"{}", 0.0) for _ in range(2))
    bad.single = True
    rows = parse_plain(RECORDS).input
    calls = [InferenceCall(model="sum", input=rows, door="zmq", caller=message) for message in (bad, good)]
    answer = await kernel.infer(calls[0])
    worker = ZmqServer(kernel, "ipc:///nowhere")
    worker._counts.active = 2
    worker._predicted([(calls[0], structs.replace(answer, probabilities=[])), (calls[1], answer)])
    assert [json.loads(frame)["type"] for _, frame in sent] == ["error", "inference_response"]
    assert worker._counts.active == 0


@pytest.fixture
def keys(tmp_path: Path) -> CurveKeys:
    """The keys of a server that knows one caller."""
    (tmp_path / "callers").mkdir()
    create_certificates(tmp_path, "server")
    create_certificates(tmp_path / "callers", "known")
    create_certificates(tmp_path, "stranger")
    return CurveKeys(server=tmp_path / "server.key_secret", callers=tmp_path / "callers")


async def test_only_callers_with_a_known_key_are_answered(server, serving, keys, tmp_path):
    """With CURVE, a known caller gets its answer; a caller with another key, or without encryption, gets nothing."""
    context = zmq.asyncio.Context()
    public = load_certificate(tmp_path / "server.key")[0]

    def caller(pair: tuple[bytes, bytes] | None) -> zmq.asyncio.Socket:
        made = context.socket(zmq.DEALER)
        if pair is not None:
            made.curve_serverkey = public
            made.curve_publickey, made.curve_secretkey = pair
        made.connect(f"tcp://127.0.0.1:{server.ports['zmq']}")
        return made

    try:
        async with server.proxy(keys=keys), server.worker(await serving()):
            refused = [caller(load_certificate(tmp_path / "stranger.key_secret")), caller(None)]
            for one in refused:
                await one.send(b'{"type": "heartbeat"}')
            known = caller(load_certificate(tmp_path / "callers" / "known.key_secret"))
            for _ in range(3):
                await known.send_json(
                    {"type": "inference_request", "data": {"model_name": "sum", "inputs": [[1, 2, 3]]}}
                )
                reply = json.loads(await asyncio.wait_for(known.recv(), 20))
                assert reply["data"]["predictions"] == [6.0]
            assert [await one.poll(timeout=100) for one in refused] == [0, 0]
    finally:
        context.destroy(linger=0)


@pytest.mark.parametrize(
    ("server_key", "callers", "said"),
    [
        ("absent.key_secret", "callers", "cannot be read"),
        ("server.key", "callers", "contains no secret key"),
        ("server.key_secret", "absent", "contains no public key of a caller"),
        ("server.key_secret", None, "only one is set"),
    ],
)
def test_keys_that_cannot_be_used_are_told_before_the_start(keys, tmp_path, server_key, callers, said):
    """A missing file, a public key in place of the pair, no callers, and one setting without the other are refused."""
    with pytest.raises(InvalidSettings, match=said):
        curve_keys(str(tmp_path / server_key), None if callers is None else str(tmp_path / callers)).check()
