"""The former path of the health check, which images of builder format 1 call; removed in the next release."""

from __future__ import annotations

import sys

from mendel.app.server.healthcheck import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
