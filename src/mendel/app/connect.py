"""Connect to a running hub over HTTP, or open the data directory in this process if no hub runs."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from urllib.parse import quote

import httpx

from mendel.app.directory import DataDirectory
from mendel.app.environment import system_environment
from mendel.app.settings import Settings, read_settings
from mendel.client.client import Client
from mendel.errors import Unsupported

_TIMEOUT_S = 60.0


def connect(
    url: str | None = None, *, directory: str | None = None, key: str | None = None, actor: str = "python"
) -> Client:
    """
    Connect to a hub.

    Args:
        url: The URL of the hub. None uses ``MENDEL_URL``, else the hub that runs with *directory*. If no hub runs, the
            directory is opened in this process: no workflow runs, and playbooks start when the next hub starts.
        directory: The data directory; None uses the setting, by default ``./.mendel``.
        key: The API key; None uses ``MENDEL_KEY``, else the key of the data directory.
        actor: The name of the caller that the ledger records.

    Raises:
        Unsupported: No hub runs and ``mendel[hub]`` is not installed.
        SchemaTooNew: The directory was written by a newer Mendel.
    """
    environment = system_environment()
    settings = read_settings(environment=environment, flags={"directory": directory})
    data = DataDirectory(settings.root)
    url, key = url or environment.get("MENDEL_URL"), key or environment.get("MENDEL_KEY")
    if url is None and (running := data.hub()) is not None:
        url, key = running.url, key or data.secret()
    if url is None:
        return _in_process(settings, data, actor)
    headers = _actor(actor) | ({"authorization": f"Bearer {key}"} if key else {})
    return Client(httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S))


def _actor(name: str) -> dict[str, str]:
    return {"x-mendel-actor": quote(name, safe=" :@/")}


def _in_process(settings: Settings, data: DataDirectory, actor: str) -> Client:
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        raise Unsupported(
            (
                f"No hub runs on the data directory {data.root}, and this installation has no extra 'hub' "
                "to open the directory."
            ),
            remedy="Install mendel[hub], start a hub with 'mendel up', or set MENDEL_URL to the URL of a hub.",
        )
    from mendel.app.wiring import open_rooms  # noqa: PLC0415
    from mendel.client.asgi_transport import InProcessTransport  # noqa: PLC0415 - needs mendel[hub]
    from mendel.transports.hub import create_app  # noqa: PLC0415

    with ExitStack() as closing:
        rooms = closing.enter_context(open_rooms(settings))
        transport = InProcessTransport(create_app(rooms.parts()))
        headers = _actor(actor) | {"authorization": f"Bearer {data.secret()}"}
        http = httpx.Client(transport=transport, base_url="http://mendel.local", headers=headers)
        return Client(http, closing=closing.pop_all(), embedded=True)
