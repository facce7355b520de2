"""Listening sockets."""

import os
import socket
from datetime import UTC, datetime

import pytest

from mendel.adapters.processes.listening_sockets import Address, listeners
from mendel.errors import PortInUse


@pytest.fixture
def taken():
    """A port somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_refused_by_name_and_nothing_stays_bound(taken):
    """The error names the port and the remedy, and the ports bound before it are free again."""
    with (
        pytest.raises(PortInUse, match=f"REST port {taken} .*another port"),
        listeners("127.0.0.1", rest_ports=(0, taken), optional_ports=(), grpc_port=None, zmq_port=None),
    ):
        pass


def test_an_optional_taken_port_is_left_out(taken, capsys):
    """A taken port that nobody insisted on costs one line, not the start."""
    with listeners("127.0.0.1", rest_ports=(0, taken), optional_ports=(taken,), grpc_port=0, zmq_port=0) as bound:
        assert len(bound.ports["rest"]) == len(bound.ports["grpc"]) == len(bound.ports["zmq"]) == 1
        assert all(os.get_inheritable(listener.fileno()) for listener in bound.all)


def test_a_second_server_cannot_share_a_port():
    """There is no SO_REUSEPORT: whoever comes second is told."""
    with listeners("127.0.0.1", rest_ports=(0,), optional_ports=(), grpc_port=None, zmq_port=None) as bound:
        (port,) = bound.ports["rest"]
        second = listeners("127.0.0.1", rest_ports=(port,), optional_ports=(), grpc_port=None, zmq_port=None)
        with pytest.raises(PortInUse), second:
            pass


def test_the_address_reads_back(tmp_path):
    """What a server writes of itself, others read."""
    assert Address.read(tmp_path) is None
    address = Address(
        server="server-1",
        epoch="e",
        pid=7,
        host="127.0.0.1",
        ports={"rest": (1, 2), "grpc": ()},
        started=datetime(2026, 1, 1, tzinfo=UTC),
    )
    address.write(tmp_path)
    assert Address.read(tmp_path) == address
