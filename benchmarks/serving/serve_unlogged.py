"""
Run `mendel serve` without the prediction log, to measure what the log costs.

Mendel has no setting for this: only a server of a project without a registered version has no log.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from mendel.app.cli.main import program
from mendel.app.server import serve_options

if __name__ == "__main__":
    serve = serve_options.serve
    serve_options.serve = lambda settings: serve(replace(settings, logged=False))
    sys.exit(program())
