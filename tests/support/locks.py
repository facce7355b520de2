"""Locks over tiny wheels, and a cache that has them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mendel.app.images.cache_directories import this_platform
from mendel.images import BasePin, Environment, Lock, RuntimePin, WheelPin
from mendel.values import Digest
from support.wheels import wheel

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
NONE = Digest(f"sha256:{0:064}")
_BORROWED = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("numpy", {np.__file__!r}, submodule_search_locations={np.__path__!r})
sys.modules["numpy"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
""".encode()
BORROWED_NUMPY = wheel("numpy", np.__version__, files={"numpy.py": _BORROWED})
"""A wheel of one file that gives this machine's numpy, and no other package of it."""


def keep(cache: Path, name: str, content: bytes) -> WheelPin:
    """Put a wheel into the cache as a fetch does."""
    digest = hashlib.sha256(content).hexdigest()
    (cache / "wheels" / digest).mkdir(parents=True, exist_ok=True)
    (cache / "wheels" / digest / name).write_bytes(content)
    distribution, version, _ = name.split("-", 2)
    return WheelPin(
        name=distribution, version=version, filename=name, sha256=Digest(f"sha256:{digest}"), size_bytes=len(content)
    )


def lock_of(
    cache: Path, wheels: Iterable[tuple[str, bytes]], *, classifier: str, python: str = PYTHON, platform: str = ""
) -> Lock:
    """A lock that pins *wheels* for *classifier*, by default for this machine."""
    environment = Environment(
        classifiers=(classifier,),
        platform=platform or str(this_platform()),
        inputs=NONE,
        requirements=(),
        base=BasePin(reference="b", digest=NONE, python=python, interpreter="/usr/bin/python3", glibc="2.36"),
        wheels=tuple(keep(cache, *one) for one in wheels),
    )
    own = WheelPin(name="mendel", version="1", filename="mendel-1-py3-none-any.whl", sha256=NONE, size_bytes=1)
    runtime = RuntimePin(version="1", commit=None, url=None, how="installed", wheel=own)
    return Lock(runtime=runtime, environments=(environment,), compressor="none")
