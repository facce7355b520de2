"""
Ask the server of a data directory whether it lives.

``python -m mendel.app.server.healthcheck DATA_DIR`` exits 0 if it does, 1 if not.

For an image's HEALTHCHECK, which runs every few seconds: nothing but the standard library is imported.
"""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_PATIENCE_S = 3.0
_OK = 200
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what a server was bound to


def trouble(data: Path) -> str | None:
    """What keeps the server of *data* from being called alive, in one line; None where nothing does."""
    path = data / "server" / "server.json"
    try:
        address = json.loads(path.read_bytes())
        host, port = address["host"], address["ports"]["rest"][0]
    except FileNotFoundError:
        return f"No server has started on {data}."
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{path} cannot be read: {error}."
    connection = HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"The server on port {port} does not answer: {error or type(error).__name__}."
    finally:
        connection.close()
    return None if status == _OK else f"The server on port {port} answers {status}."


def main(arguments: list[str]) -> int:
    """Look once; say what is wrong in one line."""
    if len(arguments) != 1:
        print("usage: python -m mendel.app.server.healthcheck DATA_DIR", file=sys.stderr)  # noqa: T201 - a program's own output
        return 2
    found = trouble(Path(arguments[0]))
    if found is not None:
        print(found, file=sys.stderr)  # noqa: T201 - a program's own output
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
