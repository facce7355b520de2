"""
Writes a wheel whose bytes depend on nothing but what is in it.

Entries are stored, not compressed: zlib and its relatives give other bytes from one Python to the next, and the layer
of an image compresses them anyway. Needs the standard library only, so that any Python can be asked whether it agrees.
"""

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

_DATE = (1980, 1, 1, 0, 0, 0)
_REGULAR_0644 = 0o100644 << 16
_UNIX = 3


def write_wheel(files: Mapping[str, bytes], info: str, into: BinaryIO) -> None:
    """
    Write *files* and their RECORD.

    Args:
        files: Contents by path in the wheel.
        info: Name of the ``.dist-info`` directory; its files come last, as installers like them.
    """
    record = f"{info}/RECORD"
    listed = "".join(f"{name},sha256={_encoded(files[name])},{len(files[name])}\n" for name in _ordered(files, info))
    whole = {**files, record: f"{listed}{record},,\n".encode()}
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as archive:
        for name in _ordered(whole, info):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _REGULAR_0644
            entry.create_system = _UNIX
            archive.writestr(entry, whole[name])


def payload_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256, in hex, over the sorted names and contents."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return whole.hexdigest()


def _ordered(files: Mapping[str, bytes], info: str) -> list[str]:
    return sorted(files, key=lambda name: (name.startswith(f"{info}/"), name == f"{info}/RECORD", name))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
