"""The recipe of a minimal base, made with the real mmdebstrap from a real mirror, and a project locked on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mendel.adapters.debian import BaseRecipe
from mendel.adapters.debian.package_contents import files_of_scripts, is_kept, packages_of
from mendel.adapters.oci.base_images import BaseImages
from mendel.adapters.oci.layout.layout import Layout
from mendel.app.images.base_making import make_base
from mendel.errors import InvalidValue, ProgramFailed, Unsupported
from mendel.images import Platform
from mendel.images.manifests import parse_json
from support.waiting import until

AMD = Platform.parse("linux/amd64")
PROBE = """
import bz2, ctypes, json, lzma, multiprocessing, sqlite3, ssl, tempfile, unittest, uuid, zoneinfo
print(json.dumps([ssl.create_default_context().cert_store_stats()["x509_ca"], tempfile.gettempdir(),
    str(zoneinfo.ZoneInfo("Europe/Vienna"))]))
"""

OLD_MODEL = """
import sys

import google.protobuf
import sklearn
from sklearn.linear_model import LogisticRegression


class Toy:
    def __init__(self):
        assert (sys.version_info[:2], sklearn.__version__) == ((3, 9), "1.0.2")
        assert google.protobuf.__version__ == "3.20.3"
        self.model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
        assert self.predict([[9.0]]).tolist() == [1]

    def predict(self, X):
        return self.model.predict(X)
"""


@pytest.fixture(scope="module")
def made(mendel_base: Path) -> Layout:
    """The base that the command makes."""
    return Layout(mendel_base)


def layer_of(layout: Layout) -> Path:
    """The only layer's blob."""
    (entry,) = layout.named()
    (layer,) = layout.manifest(entry.digest).layers
    return layout.path(layer.digest)


@pytest.mark.slow
def test_twice_gives_the_same_digest(made, tmp_path):
    """Made again, elsewhere, not by the command and from packages fetched again: byte for byte the same image."""
    again = Layout(tmp_path / "elsewhere")
    make_base(BaseRecipe(platforms=(AMD,)), again, name="base")
    assert [entry.digest for entry in again.named()] == [entry.digest for entry in made.named()]


def test_it_is_small_and_holds_nothing_of_the_machine(made):
    """Under 50 MB unpacked; no shell, no package tools, no caches, no name server or host name of this machine."""
    with tarfile.open(layer_of(made)) as archive:
        members = {member.name: member for member in archive}
    assert sum(member.size for member in members.values()) < 50_000_000
    for gone in ("bin/sh", "usr/bin/dpkg", "usr/bin/perl", "etc/resolv.conf", "etc/hostname", "var/cache/apt"):
        assert not any(name == gone or name.startswith(f"{gone}/") for name in members if name != "var/cache/apt")
    assert not any("__pycache__" in name or name.startswith("usr/share/man/") for name in members)
    assert any(name.startswith("usr/share/doc/") and name.endswith("/copyright") for name in members)
    assert {member.mtime for member in members.values()} == {315532800}
    assert members["tmp"].mode == 0o1777
    assert {"etc/passwd", "etc/ssl/certs/ca-certificates.crt", "var/lib/dpkg/status.d/python3"} < members.keys()


def test_its_python_is_found(made, tmp_path):
    """Locking reads from it what decides about wheels: Python, its path, the C library."""
    bases = BaseImages(cache=Layout(tmp_path / "cache"), root=made.directory.parent)
    pin = bases.pin(f"oci:{made.directory.name}", AMD)
    assert (pin.python, pin.glibc) == ("3.11", "2.36")
    assert pin.interpreter.startswith("/usr/bin/python3")


def test_its_python_runs(need, made, tmp_path):
    """The interpreter starts, with its compiled modules, certificates, time zones and a place for temporary files."""
    need("chroot")
    with tarfile.open(layer_of(made)) as archive:
        archive.extractall(tmp_path, filter="fully_trusted")  # noqa: S202 - the layer that was just made
    done = subprocess.run(
        ["chroot", str(tmp_path), "/usr/bin/python3", "-B", "-c", PROBE], check=True, capture_output=True, timeout=30
    )
    certificates, temporary, zone = json.loads(done.stdout)
    assert certificates > 100
    assert (temporary, zone) == (str(Path("/", "tmp")), "Europe/Vienna")


@pytest.mark.slow(seconds=60)
def test_an_old_project_is_locked_and_built_from_the_command_line(need, tmp_path):
    """
    A project that needs Python 3.9, scikit-learn 1.0 and protobuf 3 is locked, built, and loads in its image.

    `mendel lock` again changes nothing; --check tells stale from fresh. A base image of this machine only is told, and
    its export has the pinned digest wherever the archive is read.
    """
    need("mmdebstrap")
    root = tmp_path / "project"
    make_base(BaseRecipe(platforms=(AMD,), suite="bullseye"), Layout(root / ".mendel" / "base"), name="base")
    (root / "mlserver.yaml").write_text(
        "classifier: {name: toy}\npredictor: {module: model, class_name: Toy}\n"
        "build: {base_image: 'oci:.mendel/base'}\n"
    )
    (root / "model.py").write_text(OLD_MODEL)
    (root / "requirements.txt").write_text("scikit-learn==1.0.2\nnumpy==1.22.4\nprotobuf==3.20.3\n")

    def mendel(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mendel.app.cli", *arguments, "--path", str(root)]
        environment = {**os.environ, "MENDEL_CACHE": str(tmp_path / "cache")}
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)

    first = mendel("lock", "--json")
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    (environment,) = told["lock"]["environments"]
    base = environment["base"]
    assert (base["python"], base["runtime"]["python"], base["glibc"]) == ("3.9", "3.11", "2.36")
    of_mendel, of_project = (
        {pin["name"]: pin["version"] for pin in environment[name]} for name in ("wheels", "project")
    )
    assert {"numpy", "scikit-learn", "httptools"} < of_mendel.keys()
    assert "mendel" not in of_mendel
    assert (of_project["scikit-learn"], "httptools" in of_project) == ("1.0.2", False)
    assert told["wheels"]["brought"] == [told["lock"]["runtime"]["wheel"]["filename"]]
    assert "oci:.mendel/base exists on this machine only" in first.stderr
    exported = mendel("base", "export", "--output", str(root / "base.tar"), "--json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["base_image"] == "oci-archive:base.tar"
    elsewhere = BaseImages(cache=Layout(tmp_path / "elsewhere"), root=root)
    assert elsewhere.pin("oci-archive:base.tar", AMD).digest == environment["base"]["digest"]
    before = (root / "mlserver.lock").read_bytes()
    again = mendel("lock")
    assert again.returncode == 0, again.stderr
    assert mendel("lock", "--check").returncode == 0
    assert json.loads(before)["environments"] == json.loads((root / "mlserver.lock").read_bytes())["environments"]
    built = mendel("build", "--no-load", "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["verified"]
    (root / "requirements.txt").write_text("numpy\nhttpx\n")
    stale = mendel("lock", "--check")
    assert stale.returncode == 1
    assert "new requirements: httpx" in stale.stderr


def test_without_mmdebstrap_it_says_how_to_get_it(tmp_path):
    """The program's name and how to install it are in the error; no layout is left."""
    with pytest.raises(Unsupported, match="apt-get install mmdebstrap"):
        make_base(BaseRecipe(platforms=(AMD,)), Layout(tmp_path / "b"), name="base", program="no-such-program")
    assert not (tmp_path / "b").exists()


def test_a_mirror_that_does_not_answer_leaves_no_image(need, tmp_path):
    """The end of its log is in the error, and the layout stays as it was."""
    need("mmdebstrap", root=False)
    recipe = BaseRecipe(platforms=(AMD,), mirrors=("http://127.0.0.1:9/debian",))
    with pytest.raises(ProgramFailed) as failed:
        make_base(recipe, Layout(tmp_path / "b"), name="base")
    assert failed.value.log_tail
    assert Layout(tmp_path / "b").named() == ()


@pytest.mark.timeout(400)
def test_an_interrupt_leaves_no_process_and_no_image(need, tmp_path):
    """Ctrl-C while packages are unpacked ends mmdebstrap, which takes its directories away, and names nothing."""
    need("mmdebstrap", root=False)
    (tmp_path / "tmp").mkdir()
    script = (
        "from pathlib import Path; from mendel.adapters.debian import *;"
        "from mendel.app.images.base_making import make_base;"
        "from mendel.adapters.oci.layout.layout import Layout;"
        "from mendel.images import Platform; import sys;"
        "make_base(BaseRecipe(platforms=(Platform.parse('linux/amd64'),)), Layout(Path(sys.argv[1])), name='base')"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "b")], env=environment, stderr=subprocess.DEVNULL
    )
    with child:
        begun = (tmp_path / "tmp").glob  # what mmdebstrap makes after the package lists arrived
        until(lambda: child.poll() is not None or list(begun("mmdebstrap.[!g]*")), within=300)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        child.wait(60)
    assert child.returncode
    assert list((tmp_path / "tmp").iterdir()) == []
    assert Layout(tmp_path / "b").named() == ()


@pytest.mark.parametrize(
    "wrong",
    [{"include": ("a b",)}, {"include": ("--foo",)}, {"suite": "-x"}, {"mode": "chrootless"}, {"platforms": ()}],
)
def test_names_are_checked_before_anything_runs(wrong):
    """Nothing that is no name reaches the program's command line."""
    with pytest.raises(InvalidValue):
        BaseRecipe(**{"platforms": (AMD,), **wrong})


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("usr/bin/python3.11", True),
        ("usr/bin/curl", True),
        ("usr/bin/dpkg-deb", False),
        ("usr/lib/python3.11/unittest/case.py", True),
        ("usr/lib/python3.11/test/support/__init__.py", False),
        ("usr/lib/python3.11/lib-dynload/_testcapi.cpython-311-x86_64-linux-gnu.so", False),
        ("usr/lib/python3/dist-packages/x.py", True),
        ("usr/share/doc/libc6/copyright", True),
        ("usr/share/doc/libc6/changelog.gz", False),
        ("usr/share/doc", True),
        ("var/lib/dpkg/status.d/libc6", True),
        ("var/lib/dpkg/status", False),
        ("var/cache", True),
        ("var/cache/apt", False),
        ("dev/null", False),
        ("etc/resolv.conf", False),
    ],
)
def test_what_a_base_keeps(path, kept):
    """The table of what stays."""
    assert is_kept(path) is kept


def test_what_scripts_would_have_made():
    """Users, groups and the one file of certificates, sorted, come of the packages' own files."""
    made = files_of_scripts(
        {
            "usr/share/ca-certificates/mozilla/B.crt": b"B\n",
            "usr/share/ca-certificates/mozilla/A.crt": b"A",
            "usr/share/base-passwd/passwd.master": b"root:*:0:0::/root:/bin/sh\n",
        }
    )
    assert made["etc/ssl/certs/ca-certificates.crt"] == b"A\nB\n"
    assert made["etc/passwd"].startswith(b"root:")
    stanzas = {
        "var/lib/dpkg/status.d/b": b"Package: b\nVersion: 2\n",
        "var/lib/dpkg/status.d/a": b"Package: a\nVersion: 1\n",
    }
    assert packages_of(stanzas) == (("a", "1"), ("b", "2"))


def test_the_image_says_what_it_runs_on(made):
    """Architecture, path and start of the configuration; created when its newest package was, not now."""
    (entry,) = made.named()
    config = parse_json(made.read(made.manifest(entry.digest).config.digest))
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"]["Cmd"] == ["/usr/bin/python3"]
    assert config["created"] == config["history"][0]["created"]
