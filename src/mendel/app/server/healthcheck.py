"""
Check whether the server of a data directory is alive, at the URL in its ``server.json``.

``python -m mendel.app.server.healthcheck DATA_DIR`` exits with 0 if the server is alive, else with 1.

The HEALTHCHECK of images runs this module every few seconds, so it imports only the standard library.
"""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

_TIMEOUT_S = 3.0
_OK = 200


def health_problem(data: Path) -> str | None:
    """Give the reason, in one line, why the server of the data directory *data* is not alive; None if it is alive."""
    path = data / "server" / "server.json"
    try:
        url = urlsplit(json.loads(path.read_bytes())["health_url"])
        host, port = url.hostname or "", url.port
    except FileNotFoundError:
        return f"No server has been started with the data directory {data}."
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{path} cannot be read: {error}."
    connection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", url.path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"The server on port {port} does not respond: {error or type(error).__name__}."
    finally:
        connection.close()
    return None if status == _OK else f"The server on port {port} answers with status {status}."


def main(arguments: list[str]) -> int:
    """Check once, print the problem if there is one, and give the exit code."""
    if len(arguments) != 1:
        print("usage: python -m mendel.app.server.healthcheck DATA_DIR", file=sys.stderr)  # noqa: T201 - a program's own output
        return 2
    found = health_problem(Path(arguments[0]))
    if found is not None:
        print(found, file=sys.stderr)  # noqa: T201 - a program's own output
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
