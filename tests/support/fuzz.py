"""
Drive one decoder with atheris, guided by what its input covers: ``python -m support.fuzz NAME SECONDS DIRECTORY``.

The directory keeps the corpus, and an input that broke the property: ``crash-...``, ``timeout-...`` or ``oom-...``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mendel"]):
    from support.decoders import REFUSALS, decoders, versions


def main(name: str, seconds: str, directory: str) -> None:
    """Fuzz until the time is over; exits with an error where the property broke."""
    place = Path(directory)
    with versions() as loaded:
        decoder = decoders(loaded)[name]
        for number, seed in enumerate(decoder.seeds):
            (place / f"seed-{number}").write_bytes(seed)

        def once(body: bytes) -> None:
            try:
                decoder.read(body)
            except REFUSALS:
                return

        bounds = ["-timeout=5", "-rss_limit_mb=4096", "-max_len=4096", f"-artifact_prefix={place}/"]
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-print_final_stats=1", *bounds, directory], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
