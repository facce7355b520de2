"""A connection in memory."""

from __future__ import annotations

import asyncio

import pytest

from support.http2 import Link


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def make_link(loop):
    """Makes connections that have been greeted, with limits as given."""

    def make(**given):
        link = Link(loop, **given)
        link.greet()
        return link

    return make


@pytest.fixture(scope="session")
def loop_of_examples():
    """One loop for all examples of a property."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
