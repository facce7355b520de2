"""Ports for tests: out of the range from which outgoing connections take theirs, so that nobody gets in between."""

from __future__ import annotations

import os
import socket
import threading

import pytest

FIRST, LAST = 10_000, 32_000
_next = FIRST + os.getpid() * 97 % (LAST - FIRST)
_mutex = threading.Lock()


def free_ports(count: int) -> tuple[int, ...]:
    """So many ports on which nobody listens, none of them given before by this process."""
    return tuple(_free_port() for _ in range(count))


def _free_port() -> int:
    global _next  # noqa: PLW0603 - ports are the process's
    with _mutex:
        while True:
            _next = _next + 1 if _next < LAST else FIRST
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", _next))
                except OSError:
                    continue
                return _next


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on now."""
    return _free_port()


@pytest.fixture(name="free_ports")
def two_free_ports() -> tuple[int, ...]:
    """Two such ports."""
    return free_ports(2)
