"""Wheels whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import zipfile

import pytest

import mendel.adapters.pip.wheel_writer as module
from mendel.adapters.pip import payload_digest, write_wheel
from support.programs import other_python

FILES = {"b/x.py": b"1\n", "a.py": b"", "m-1.dist-info/METADATA": b"Name: m\n", "b/aé.txt": b"\x00" * 70}
INFO = "m-1.dist-info"


def written(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    write_wheel(files, INFO, buffer)
    return buffer.getvalue()


def test_order_and_time_do_not_matter():
    """Equal files in any order are equal bytes, stored, with one date, the RECORD last."""
    whole = written(FILES)
    assert whole == written(dict(reversed(FILES.items())))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = archive.infolist()
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert entries[-1].filename == f"{INFO}/RECORD"


def test_the_record_names_every_file_with_its_digest():
    """RECORD is what installers check by."""
    with zipfile.ZipFile(io.BytesIO(written(FILES))) as archive:
        lines = archive.read(f"{INFO}/RECORD").decode().splitlines()
        for line in lines[:-1]:
            name, digest, size = line.rsplit(",", 2)
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={expected}", len(content))
        assert lines[-1] == f"{INFO}/RECORD,,"
        assert len(lines) == len(FILES) + 1


def test_the_payload_digest_sees_names_and_contents():
    """Moving a byte from a name to a content is another payload."""
    assert payload_digest({"ab": b"c"}) != payload_digest({"a": b"bc"})
    assert payload_digest({"a": b"", "b": b"1"}) == payload_digest({"b": b"1", "a": b""})


@pytest.mark.parametrize("minor", ["3.12", "3.13"])
def test_another_python_writes_the_same_bytes(minor, tmp_path):
    """The zip module of other Pythons agrees on every byte."""
    python = other_python(minor)
    script = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('m', sys.argv[1]);"
        "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m);"
        f"m.write_wheel({FILES!r}, {INFO!r}, open(sys.argv[2], 'wb'))"
    )
    target = tmp_path / "other.whl"
    subprocess.run([python, "-X", "utf8", "-c", script, module.__file__, str(target)], check=True, timeout=30)
    assert target.read_bytes() == written(FILES)
