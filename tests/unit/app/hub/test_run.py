"""How the hub's HTTP server is set up."""

from __future__ import annotations

import httpx

from mendel.app.hub.run import server_config


async def no_app(scope, receive, send):
    """Answers nothing."""


def test_the_hub_closes_idle_connections_after_its_clients():
    """A client's next request never meets a connection that the hub is closing."""
    kept_s = httpx.Limits().keepalive_expiry
    assert kept_s is not None
    assert kept_s < server_config(no_app).timeout_keep_alive
