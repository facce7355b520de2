"""Mendel's own wheel: the same bytes from a checkout, from another one, and from what was installed of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import mendel
from mendel.adapters.git import GitPrograms
from mendel.adapters.pip import CachedWheels
from mendel.app.images.runtime_wheel import runtime_pin, runtime_source
from mendel.images import RuntimePin
from mendel.projects import tool_build

PACKAGE = Path(mendel.__file__).parent
ROOT = PACKAGE.parent.parent
PINNED = """
import json, sys
from pathlib import Path
from mendel.adapters.git import GitPrograms
from mendel.adapters.pip import CachedWheels
from mendel.app.images.runtime_wheel import runtime_pin, runtime_source
from mendel.projects import tool_build
from mendel.values import to_json
git = GitPrograms()
pin = runtime_pin(runtime_source(tool_build(git), git), CachedWheels(Path(sys.argv[1])))
print(to_json(pin).decode())
"""


def git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(directory), *identity, *arguments], check=True, capture_output=True, timeout=30)


def pin_of(package: Path, cache: Path) -> tuple[RuntimePin, Path]:
    """The pin of the checkout that *package* is in, and its wheel."""
    programs = GitPrograms()
    wheels = CachedWheels(cache)
    pin = runtime_pin(runtime_source(tool_build(programs, package=package), programs, package=package), wheels)
    return pin, wheels.path(pin.wheel)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with the package as it stands here, at one commit."""
    root = tmp_path_factory.mktemp("checkout") / "mendel é"
    shutil.copytree(PACKAGE, root / "src" / "mendel", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, root)
    git(root, "init", "-q", ".")
    git(root, "remote", "add", "origin", "https://me:secret@example.org/mendel.git")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")
    return root


def test_two_checkouts_of_a_commit_give_one_wheel(checkout, tmp_path):
    """A clone elsewhere, with bytecode and strange files lying about, gives the same bytes."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(checkout), str(clone))
    git(clone, "remote", "set-url", "origin", "https://example.org/mendel.git")
    (clone / "src" / "mendel" / "untracked.py").write_text("secret = 1\n")
    (clone / "src" / "mendel" / "__init__.pyc").write_bytes(b"x")
    first, first_file = pin_of(checkout / "src" / "mendel", tmp_path / "a")
    second, second_file = pin_of(clone / "src" / "mendel", tmp_path / "b")
    assert first == second
    assert not first.dirty
    assert (first.how, first.url) == ("checkout", "https://example.org/mendel.git")
    assert first_file.read_bytes() == second_file.read_bytes()


def test_what_is_installed_of_it_gives_it_again(checkout, tmp_path):
    """A Mendel that was installed from that wheel makes the same wheel: same bytes, same name, same commit."""
    pin, file = pin_of(checkout / "src" / "mendel", tmp_path / "a")
    site = tmp_path / "site-packages"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-c", PINNED, str(tmp_path / "b")],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )
    again = json.loads(done.stdout)
    assert again["wheel"]["sha256"] == pin.wheel.sha256
    assert again["wheel"]["filename"] == pin.wheel.filename
    assert (again["commit"], again["url"], again["how"]) == (pin.commit, pin.url, "installed")


def test_the_wheel_says_what_it_is(checkout, tmp_path):
    """Commit and repository stand in it, its needs are those of the base install, its commands are there."""
    pin, file = pin_of(checkout / "src" / "mendel", tmp_path / "a")
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        info = next(name.split("/")[0] for name in names if name.endswith("/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read("mendel/_commit.txt").decode() == f"{pin.commit}\n{pin.url}\n"
    requires = metadata.get_all("Requires-Dist") or []
    assert "numpy>=2" in requires
    assert not any("extra" in line for line in requires)
    assert "mlserver = mendel.app.cli.main:program" in scripts
    assert {"mendel/py.typed", "mendel/app/cli/__main__.py", f"{info}/licenses/LICENSE"} < names
    assert not any(name.startswith("mendel/examples/") or name.endswith(".pyc") for name in names)


def test_a_changed_checkout_is_dirty_and_another_wheel(checkout, tmp_path):
    """A changed file is packed as it stands, under another name, and the pin says that the commit is not all."""
    changed = tmp_path / "changed"
    git(tmp_path, "clone", "-q", str(checkout), str(changed))
    (changed / "src" / "mendel" / "errors.py").write_text("changed = True\n")
    (changed / "src" / "mendel" / "views" / "__init__.py").unlink()
    clean, _ = pin_of(checkout / "src" / "mendel", tmp_path / "a")
    dirty, file = pin_of(changed / "src" / "mendel", tmp_path / "b")
    assert dirty.dirty
    assert dirty.commit == clean.commit
    assert dirty.wheel.filename != clean.wheel.filename
    with zipfile.ZipFile(file) as archive:
        assert archive.read("mendel/errors.py") == b"changed = True\n"
        assert "mendel/views/__init__.py" not in archive.namelist()


def test_pip_takes_the_wheel(checkout, tmp_path):
    """An installer that checks RECORD accepts it."""
    _, file = pin_of(checkout / "src" / "mendel", tmp_path / "a")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(tmp_path / "t"), file]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "t" / "mendel" / "errors.py").is_file()
    assert (tmp_path / "t" / "bin" / "mendel").is_file()
