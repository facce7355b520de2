"""Listening sockets."""

import os
import socket
from datetime import UTC, datetime

import pytest

from mendel.adapters.processes.listening_sockets import DoorSettings, bound_doors
from mendel.adapters.processes.server_address import ServerAddress, health_url
from mendel.errors import PortInUse


@pytest.fixture
def taken():
    """A port somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def rest(*ports, **more):
    return DoorSettings(name="rest", title="REST", setting="serving.rest_ports", ports=ports, health_path="/h", **more)


def grpc(*ports):
    return DoorSettings(name="grpc", title="gRPC", setting="serving.grpc_port", ports=ports)


def test_a_taken_port_is_refused_by_name_and_nothing_stays_bound(taken, free_port):
    """The error names the port and the settings that help, and the ports bound before it are free again."""
    with (
        pytest.raises(PortInUse, match=rf"gRPC port {taken} .*--grpc-port or serving\.grpc_port, .*--grpc-port off"),
        bound_doors("127.0.0.1", (rest(free_port), grpc(taken))),
    ):
        pass
    with bound_doors("127.0.0.1", (rest(free_port),)) as (door,):
        assert door.ports == (free_port,)


def test_a_dispensable_taken_port_is_left_out(taken, capsys):
    """A taken port that nobody insisted on costs one line, not the start; a door without ports is not bound."""
    with bound_doors("127.0.0.1", (rest(0, taken, dispensable=(taken,)), grpc())) as doors:
        assert [(door.settings.name, len(door.ports)) for door in doors] == [("rest", 1)]
        assert all(os.get_inheritable(descriptor) for door in doors for descriptor in door.descriptors)
    assert "serving.rest_ports" in capsys.readouterr().out


def test_a_second_server_cannot_share_a_port():
    """There is no SO_REUSEPORT: a second server on a port is refused."""
    with bound_doors("127.0.0.1", (rest(0),)) as (door,):
        second = bound_doors("127.0.0.1", (rest(*door.ports),))
        with pytest.raises(PortInUse), second:
            pass


@pytest.mark.parametrize(("host", "near"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "[::1]")])
def test_health_is_asked_on_this_machine(host, near):
    """A server bound to every interface is asked through the loopback address of the same family."""
    with bound_doors("127.0.0.1", (grpc(0), rest(0))) as doors:
        assert health_url(host, doors) == f"http://{near}:{doors[1].ports[0]}/h"


def test_the_address_reads_back(tmp_path):
    """What a server writes of itself, others read."""
    assert ServerAddress.read(tmp_path) is None
    address = ServerAddress(
        server="server-1",
        epoch="e",
        pid=7,
        host="127.0.0.1",
        ports={"rest": (1, 2), "grpc": ()},
        health_url="http://127.0.0.1:1/healthz",
        started=datetime(2026, 1, 1, tzinfo=UTC),
    )
    address.write(tmp_path)
    assert ServerAddress.read(tmp_path) == address
