"""
Write a wheel whose bytes depend only on its files.

Entries are stored uncompressed, because zlib's output differs between Python versions; the image layer is compressed
anyway. Only the standard library is used, so that every Python can be tested for equal output.
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
    Write *files* and their RECORD as a wheel.

    Args:
        files: Contents by path in the wheel.
        info: The name of the ``.dist-info`` directory, whose files are written last, as the wheel specification
            recommends.
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
    """Hash the sorted names and contents with SHA-256; gives hex."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return whole.hexdigest()


def _ordered(files: Mapping[str, bytes], info: str) -> list[str]:
    return sorted(files, key=lambda name: (name.startswith(f"{info}/"), name == f"{info}/RECORD", name))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
