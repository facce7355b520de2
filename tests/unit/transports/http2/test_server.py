"""A server of HTTP/2 bounds the connections that have not ended their handshake."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

from mendel.transports.http2.application import Shared
from mendel.transports.http2.frames import PREFACE, settings_frame
from mendel.transports.http2.server import Http2Server
from mendel.transports.tls import server_context
from mendel.values import TlsFiles
from support.doors import listening
from support.http2 import Echo, limits
from support.registries import write_certificates

_WITHIN_S = 20


@pytest.fixture
async def port(tmp_path):
    """An encrypted server that lets two connections be in their handshake."""
    write_certificates(tmp_path)
    tls = server_context(
        TlsFiles(certificate=str(tmp_path / "server.pem"), key=str(tmp_path / "server.key")), protocols=("h2",)
    )
    given = limits(max_handshakes=2, drain_timeout=0.1)
    server = Http2Server(Shared(Echo(), given, asyncio.get_running_loop(), time.monotonic), tls=tls)
    sock = listening()
    await server.open(sock)
    yield sock.getsockname()[1]
    await server.close()


async def greeted(port: int) -> bytes:
    """Connect with TLS and greet; gives the first bytes of the server."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port, ssl=tls), _WITHIN_S)
    writer.write(PREFACE + settings_frame(()))
    received = await asyncio.wait_for(reader.read(9), _WITHIN_S)
    writer.transport.abort()
    return received


async def test_silent_handshakes_make_room_for_new_ones(port):
    """Of connections that begin no handshake, the oldest are closed, and a client that speaks TLS is served."""
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    for reader, _ in silent[:2]:
        assert await asyncio.wait_for(reader.read(1), _WITHIN_S) == b""
    assert (await greeted(port))[3] == 4
    assert not silent[3][0].at_eof()
    for _, writer in silent:
        writer.close()
