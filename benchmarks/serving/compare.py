"""
Compare Mendel's REST, gRPC and ZMQ with Seldon MLServer and with Triton in one run, and print one table.

    .venv/bin/python benchmarks/serving/compare.py [--quick] [--only mendel-grpc,triton-grpc] [--json FILE]

Every server serves the same scikit-learn models, and the load generators (h2load, wrk) use the same cores. Mendel runs
with everything on: an API key, the input contract, the drift reference (OOD), the prediction log, the circuit breaker,
a deadline. The metrics of every server are fetched every five seconds. Peers run in environments of their own, which
the first run makes, with batching on and off and with several numbers of workers.

A run counts only if the server's own metrics count as many right answers as the load generator and a client beside it
sent requests, if nothing failed or timed out, and if that client, which compares every answer with the model's own,
found every answer right. Other runs are shown as INVALID with the reason. The last column compares each run with the
best peer at the same case. ``MB`` is the memory in the middle of the run: the proportional set size of all processes of
the server. 500 in flight are 500 connections with one request each and 10 connections with 50; the worse one counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from comparison import PARTS, Comparison
from load_generators import require_programs
from plans import FULL, QUICK
from report import as_json, rendered


def parts(text: str) -> frozenset[str]:
    """Read the value of ``--only``."""
    named = frozenset(part.strip() for part in text.split(","))
    if unknown := named - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    return named


def end(_signal: int, _frame: FrameType | None) -> None:
    """Leave every block, so that all servers end."""
    sys.exit(1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="few cases, in three minutes at most")
    options.add_argument("--only", type=parts, default=frozenset(PARTS), metavar="PARTS", help=", ".join(PARTS))
    options.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured to FILE")
    options.add_argument("--doors", choices=("fast", "standard"), help="the only doors of Mendel that are measured")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, end)
    require_programs()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mendel-serving-", ignore_cleanup_errors=True) as room:
        plan = (QUICK if chosen.quick else FULL).with_doors(chosen.doors)
        comparison = Comparison(plan=plan, wanted=chosen.only, room=Path(room))
        comparison.run()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.monotonic() - began:.0f} s")
    print("\n".join(rendered(comparison.report)))
    if chosen.json:
        chosen.json.write_text(json.dumps(as_json(comparison.report), indent=1))


if __name__ == "__main__":
    main()
