"""Connect to a running hub over HTTP, or open the data directory in this process if no hub runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TextIO

from mendel.app.directory import DataDirectory
from mendel.app.environment import system_environment
from mendel.app.progress import showing
from mendel.errors import Unsupported

if TYPE_CHECKING:
    from mendel.app.settings import Settings
    from mendel.client.client import Client

Working = Callable[[str], AbstractContextManager[object]]
_TIMEOUT_S: Final = 60.0
_PATIENCE_S: Final = 1.0


def connect(
    url: str | None = None,
    *,
    directory: str | None = None,
    key: str | None = None,
    progress: bool | None = None,
) -> Client:
    """
    Connect to a hub; the ledger names the API key with which a change was made, or the user of the data directory.

    Args:
        url: The URL of the hub. None uses ``MENDEL_URL``, else the hub that runs with *directory*. If no hub runs, the
            directory is opened in this process: no workflow runs, and playbooks start when the next hub starts.
        directory: The data directory; None uses the setting, by default ``./.mendel``.
        key: The API key; None uses ``MENDEL_KEY``, else the key of the data directory.
        progress: Whether to write to standard error what the client waits for; None does so on a terminal.

    The first change creates the data directory if it does not exist; reading creates nothing and raises
    ``DataDirectoryNotFound``.

    Raises:
        Unsupported: No hub runs and ``mendel[hub]`` is not installed.
        SchemaTooNew: The directory was written by a newer Mendel.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    shown_on = sys.stderr if (terminal if progress is None else progress) else None
    return open_client(url, directory=directory, key=key, stream=shown_on)


def open_client(
    url: str | None = None,
    *,
    directory: str | None,
    key: str | None = None,
    stream: TextIO | None,
    after_s: float = 0.0,
) -> Client:
    """Connect as :func:`connect` does; write what the client waits for to *stream*, if connecting takes *after_s*."""
    with showing("Connecting", stream=stream, after_s=after_s) as shown:
        import httpx  # noqa: PLC0415 - after the first line of progress

        from mendel.app.settings import read_settings  # noqa: PLC0415
        from mendel.client.client import Client  # noqa: PLC0415

        environment = system_environment()
        settings = read_settings(environment=environment, flags={"directory": directory})
        data = DataDirectory(settings.root)
        url, key = url or environment.get("MENDEL_URL"), key or environment.get("MENDEL_KEY")
        if url is None and (running := data.hub()) is not None:
            url, key = running.url, key or data.secret()
        working = partial(showing, stream=stream, after_s=_PATIENCE_S)
        if url is None:
            shown.phase(f"Opening {data.root}")
            return _in_process(settings, data, working)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return Client(httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S), working=working)


def _in_process(settings: Settings, data: DataDirectory, working: Working) -> Client:
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        raise Unsupported(
            (
                f"No hub runs on the data directory {data.root}, and this installation has no extra 'hub' "
                "to open the directory."
            ),
            remedy="Install mendel[hub], start a hub with 'mendel up', or set MENDEL_URL to the URL of a hub.",
        )
    import httpx  # noqa: PLC0415 - after the first line of progress

    from mendel.app.in_process import DirectoryTransport  # noqa: PLC0415 - needs mendel[hub]
    from mendel.client.client import Client  # noqa: PLC0415

    transport = DirectoryTransport(settings, data)
    if data.database.exists():
        transport.open()
    http = httpx.Client(transport=transport, base_url="http://mendel.local")
    return Client(http, where=str(data.root), working=working)
