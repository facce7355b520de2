"""The health check's former module path, which stands in images of builder format 1; gone after one release."""

from __future__ import annotations

import sys

from mendel.app.server.healthcheck import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
