"""Tiny wheels, written by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from mendel.adapters.pip import write_wheel


def wheel(
    name: str, version: str, *requires: str, tag: str = "py3-none-any", files: Mapping[str, bytes] | None = None
) -> tuple[str, bytes]:
    """File name and content of a wheel; by default it holds one module of its own name."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    extras = sorted({extra for line in requires for extra in re.findall(r'extra == "(.*?)"', line)})
    needs = "".join(
        [*(f"Provides-Extra: {one}\n" for one in extras), *(f"Requires-Dist: {line}\n" for line in requires)]
    )
    whole = {
        **({f"{stem}.py": b""} if files is None else files),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    buffer = io.BytesIO()
    write_wheel(whole, info, buffer)
    return f"{stem}-{version}-{tag}.whl", buffer.getvalue()
