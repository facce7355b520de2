"""What a lock may say: it is committed by anybody, and its texts become paths and lines of other programs' files."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mendel.errors import InvalidProject, InvalidValue
from mendel.images import BasePin, Environment, Interpreter, Lock, RuntimePin, WheelPin
from mendel.images.lockfile import OLDEST_PYTHON
from mendel.images.manifests import canonical_json
from mendel.values import Digest

DIGEST = Digest(f"sha256:{'0' * 64}")


def _wheel(name: str, version: str = "1.0", tags: str = "py3-none-any") -> WheelPin:
    filename = f"{name}-{version}-{tags}.whl"
    return WheelPin(name=name, version=version, filename=filename, sha256=DIGEST, size_bytes=1)


WHEELS = (
    _wheel("Jinja2", "3.1.0.post1"),
    _wheel("epoch", "1!2.0rc1"),
    _wheel("scikit_learn", "1.6.0+local.7", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"),
    _wheel("zope.interface", "7.0", "1_build-py3-none-any"),
)
LOCK = Lock(
    runtime=RuntimePin(version="1", commit="c" * 40, url=None, how="checkout", wheel=_wheel("mendel")),
    environments=(
        Environment(
            classifiers=("credit",),
            platform="linux/amd64",
            inputs=DIGEST,
            requirements=("numpy",),
            base=BasePin(
                reference="oci:.mendel/an image é",
                digest=DIGEST,
                python="3.11",
                interpreter="/usr/local/bin/python3.11",
                glibc="2.36",
            ),
            wheels=WHEELS,
        ),
    ),
    compressor="libdeflate/0.9/6/1MiB",
)


def _with(part: str, field: str, value: Any) -> str:
    tree = json.loads(LOCK.as_text())
    environment = tree["environments"][0]
    parts = {"runtime": tree["runtime"]["wheel"], "wheel": environment["wheels"][0], "base": environment["base"]}
    assert field in parts[part]
    parts[part][field] = value
    return json.dumps(tree)


def test_what_was_written_is_read():
    """Names, versions, builds and paths as there are come back as they were."""
    assert Lock.parse(LOCK.as_text(), path="mlserver.lock") == LOCK


@pytest.mark.parametrize("part", ["runtime", "wheel"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("filename", name)
            for name in ("../../x", "../../x.whl", "/abs/x.whl", "a/x.whl", "..\\x.whl", "..", ".whl")
        ),
        *(
            ("filename", name)
            for name in ("", "x.tar.gz", "x.whl\n", "x\n.whl", "x\0.whl", "-x.whl", ".x.whl", "x y.whl")
        ),
        *(("name", name) for name in ("", "a\n--index-url=http://evil", "a\n", "--pre", "a b", "../a", "a;b", "ä")),
        *(("version", text) for text in ("", "1\n-r /etc/passwd", "1\n", "1 --hash=sha256:0", "1/2", "1;2", "٣")),
        ("size_bytes", -1),
    ],
)
def test_a_wheel_that_leads_elsewhere_is_no_lock(part, field, value):
    """A path for a file name, or a line more for pip, is refused with the lock's path before anything is done."""
    with pytest.raises(InvalidProject, match=r"^mlserver\.lock: .* not a valid lock: .* is not the ") as refused:
        Lock.parse(_with(part, field, value), path="mlserver.lock")
    assert refused.value.remedy == "Run: mendel lock"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("glibc", text) for text in ("", "2", "2.36\n", "2.x", "2.36.1", "-2.36", "٢.٣")),
        *(("python", text) for text in ("", "3", "2.7", "3.11\n", "3.11.2", "3.11/../..", "3.x")),
        *(("interpreter", path) for path in ("", "python3", "usr/bin/python3", "/usr/../bin/python3", "/bin/..")),
        *(("interpreter", path) for path in ("/bin/python3\n", "/bin/py\rthon", "/bin/py\0thon")),
        *(("reference", text) for text in ("", "python:3.11\nRUN evil", "python\0", "a\x1b[2Jb", "a\u2028b")),
    ],
)
def test_a_base_that_cannot_be_is_no_lock(field, value):
    """Versions that are none, interpreters outside the image and references with control characters are refused."""
    with pytest.raises(InvalidProject, match=r"^mlserver\.lock: .* not a valid lock: .* is not (a|the) "):
        Lock.parse(_with("base", field, value), path="mlserver.lock")


def test_a_lock_of_format_1_keeps_its_digest():
    """Images and versions record the digest of the lock, so nothing that later formats added is in it."""
    text = LOCK.as_text().replace('"format": 2', '"format": 1')
    environment = json.loads(text)["environments"][0]
    assert not {"project", "runtime"} & (environment.keys() | environment["base"].keys())
    older = Lock.parse(text, path="mlserver.lock")
    assert older.digest == f"sha256:{hashlib.sha256(canonical_json(json.loads(text))).hexdigest()}"
    assert older.environments == LOCK.environments
    with pytest.raises(InvalidProject, match="has format 3, but the installed Mendel reads formats up to 2"):
        Lock.parse(text.replace('"format": 1', '"format": 3'), path="mlserver.lock")


def test_two_environments_are_written_and_read():
    """The project's wheels, and the Python of the base that runs Mendel, come back as they were."""
    (environment,) = LOCK.environments
    base = replace(environment.base, python="3.9", runtime=Interpreter(python="3.12", path="/opt/bin/python3.12"))
    lock = replace(LOCK, environments=(replace(environment, base=base, project=WHEELS[:2]),))
    assert Lock.parse(lock.as_text(), path="mlserver.lock") == lock
    assert lock.environments[0].every_wheel == WHEELS
    assert [part.python for part, _ in lock.environments[0].parts] == ["3.12", "3.9"]


def test_the_oldest_python_is_the_one_of_mendels_wheel():
    """A base image is asked for the Python that pyproject.toml names."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["requires-python"].startswith(f">={'.'.join(map(str, OLDEST_PYTHON))}")


def test_a_pin_is_refused_at_birth():
    """What an index or a base says of itself is held to the same."""
    with pytest.raises(InvalidValue, match=r"'\.\./x\.whl' is not the file name of a wheel"):
        WheelPin(name="x", version="1", filename="../x.whl", sha256=DIGEST, size_bytes=1)
