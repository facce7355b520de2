"""
Ask the server of a data directory whether it is alive, at the URL that it wrote into ``server.json``.

``python -m mendel.app.server.healthcheck DATA_DIR`` exits 0 if it is, 1 if not.

For an image's HEALTHCHECK, which runs every few seconds: nothing but the standard library is imported.
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
    """Why the server of *data* does not count as alive, in one line; None where it is alive."""
    path = data / "server" / "server.json"
    try:
        url = urlsplit(json.loads(path.read_bytes())["health_url"])
        host, port = url.hostname or "", url.port
    except FileNotFoundError:
        return f"No server has started on {data}."
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{path} cannot be read: {error}."
    connection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", url.path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"The server on port {port} does not answer: {error or type(error).__name__}."
    finally:
        connection.close()
    return None if status == _OK else f"The server on port {port} answers {status}."


def main(arguments: list[str]) -> int:
    """Check once; print what is wrong in one line."""
    if len(arguments) != 1:
        print("usage: python -m mendel.app.server.healthcheck DATA_DIR", file=sys.stderr)  # noqa: T201 - a program's own output
        return 2
    found = health_problem(Path(arguments[0]))
    if found is not None:
        print(found, file=sys.stderr)  # noqa: T201 - a program's own output
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
