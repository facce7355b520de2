"""Encrypted gRPC in both forms: who knows the authority connects; with mTLS, who also has a certificate."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mendel.errors import InvalidSettings
from mendel.serving import ServingPolicy
from mendel.transports.tls import server_context
from mendel.values import TlsFiles
from support.door_forms import both_forms
from support.registries import write_certificates


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    write_certificates(tmp_path)
    return TlsFiles(certificate=str(tmp_path / "server.pem"), key=str(tmp_path / "server.key"))


async def status(port: int, credentials: grpc.ChannelCredentials | None) -> str:
    """The status of a health check, or of the call that fails."""
    target = f"localhost:{port}"
    made = grpc.aio.insecure_channel(target) if credentials is None else grpc.aio.secure_channel(target, credentials)
    async with made as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


@both_forms
async def test_clients_need_the_authority_and_where_asked_for_a_certificate(open_world, files, tmp_path):
    """TLS refuses plain text and unknown authorities; ``client_ca`` also refuses clients without a certificate."""
    ca, certificate, key = ((tmp_path / name).read_bytes() for name in ("ca.pem", "server.pem", "server.key"))
    anonymous = grpc.ssl_channel_credentials(ca)
    named = grpc.ssl_channel_credentials(ca, key, certificate)
    stranger = grpc.ssl_channel_credentials()
    for client_ca, expected in (
        (None, ["OK", "OK", "UNAVAILABLE", "UNAVAILABLE"]),
        (str(tmp_path / "ca.pem"), ["OK", "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"]),
    ):
        world = await open_world(replace(ServingPolicy(), tls=replace(files, client_ca=client_ca)))
        port = world.ports["grpc"]
        found = await asyncio.gather(*(status(port, given) for given in (named, anonymous, stranger, None)))
        assert found == expected


@both_forms
async def test_large_encrypted_messages_arrive(open_world, files, tmp_path, shelf, at):
    """Messages of many records of TLS go both ways."""
    shelf.put("sum", 1)
    world = await open_world(replace(ServingPolicy(), tls=files))
    await world.apply(at("sum"))
    credentials = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.secure_channel(f"localhost:{world.ports['grpc']}", credentials, options) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(health_pb2.HealthCheckRequest(service="x" * (8 << 20)).SerializeToString())
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": None}, "Set both"),
        ({"certificate": "nowhere.pem"}, "No such file"),
        ({"key": __file__}, "cannot be used"),
        ({"client_ca": __file__}, "client authorities"),
    ],
)
def test_files_that_cannot_be_used_are_named(files, change, says):
    """A missing file, one that is no key, and half of a pair are errors that name the setting."""
    with pytest.raises(InvalidSettings, match=says) as caught:
        server_context(replace(files, **change), ())
    assert "serving.tls." in str(caught.value)


def test_without_files_there_is_no_tls():
    """No file, no context."""
    assert server_context(TlsFiles(), ()) is None
