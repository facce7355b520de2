"""The canonical builder against the real world: kernels, disks, signals, other Pythons, real interpreters."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mendel.adapters.oci.layers.unpacking import unpack
from mendel.adapters.oci.layout.layout_images import LayoutImages
from mendel.errors import ImageNotVerified, StoreUnavailable
from mendel.images.image_archives import write_archive
from mendel.images.tar_archives import Directory, Entry, File
from support.programs import other_python

LAB = Path(__file__).with_name("builder_lab.py")
SOURCES = Path(__file__).parents[3] / "src"
LEFT_OUT = {"test", "idlelib", "tkinter", "lib2to3", "ensurepip", "site-packages", "__pycache__", "config"}
NEEDED = "deflate numpy msgspec pyyaml packaging"


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    """The program beside this file, as a module."""
    spec = importlib.util.spec_from_file_location("builder_lab", LAB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["builder_lab"] = module
    spec.loader.exec_module(module)
    return module


def libraries_of(program: Path) -> set[Path]:
    """The shared libraries a program is linked with, as the loader finds them here."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    words = [word for line in listed.splitlines() for word in line.split()]
    return {Path(word) for word in words if word.startswith("/")}


def own_python() -> tuple[list[Entry], str]:
    """This Python as the layer of a base: interpreter, libraries, standard library; and where it stands."""
    interpreter = Path(sys._base_executable).resolve()
    standard = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    modules = [path for path in standard.rglob("*") if path.is_file() and not LEFT_OUT & set(path.parts)]
    linked = libraries_of(interpreter)
    for module in modules:
        if module.name.startswith("_ctypes.") and module.suffix == ".so":
            linked |= libraries_of(module)
    entries: dict[str, Entry] = {}
    for path in {interpreter, *linked, *modules}:
        content = path.read_bytes()
        name = str(path).lstrip("/")
        entries[name] = File.of(name, content, executable=path == interpreter or path in linked)
    entries |= {name: Directory(path=name) for name in ("tmp", "proc", "dev") if name not in entries}
    return list(entries.values()), str(interpreter)


@pytest.fixture(scope="session")
def python_base(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A base with this Python in it."""
    if shutil.which("ldd") is None or platform.machine() != "x86_64":
        pytest.skip("needs ldd on linux/amd64")
    entries, interpreter = own_python()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return lab.make_base(tmp_path_factory.mktemp("base"), entries, interpreter=interpreter, python=version)


@pytest.fixture(scope="session")
def make_lab(lab: ModuleType, python_base: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """Labs over one room, so that what is below the project is unpacked once for all tests."""
    room = tmp_path_factory.mktemp("lab")

    def make() -> Any:
        shutil.rmtree(room / "project", ignore_errors=True)
        shutil.rmtree(room / "images", ignore_errors=True)
        return lab.Lab(room, python_base)

    if os.geteuid() and subprocess.run(["unshare", "-U", "-r", "-m", "true"], check=False).returncode:
        pytest.skip("needs root or user namespaces")
    return make


def test_a_predictor_that_imports_is_named(make_lab: Callable[[], Any]) -> None:
    """The class is imported from /app with the wheels at hand, and never constructed."""
    code = (
        "import alpha, local_file\n"
        "class Model:\n    def __init__(self): raise RuntimeError('constructed')\n"
        "import sys; assert sys.path[0] == '/app' and sys.prefix == '/opt/mendel'\n"
        "assert open('artifact.bin').read() == 'weights'\n"
    )
    lab = make_lab()
    (lab.room / "project").mkdir()
    (lab.room / "project" / "artifact.bin").write_text("weights")
    (lab.room / "project" / "local_file.py").write_text("")
    digest = lab.build(lab.plan(code, artifacts=("artifact.bin", "local_file.py")))
    assert {entry.digest for entry in lab.layout.named()} == {digest}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nowhere_to_be_found\nclass Model: pass\n", "No module named 'nowhere_to_be_found'"),
        ("import ctypes; ctypes.CDLL('libmissing.so.1')\nclass Model: pass\n", "libmissing.so.1: cannot open shared"),
        ("class Other: pass\n", "model has no Model"),
        ("class Model: pass\nimport sys; sys.exit(3)\n", "cannot be loaded"),
        ("class Model: pass\nimport os; os.abort()\n", "cannot be loaded"),
        ("print('x' * 100_000)\nraise RuntimeError('the end')\n", "the end"),
    ],
    ids=["module", "library", "class", "exit", "abort", "talkative"],
)
def test_a_predictor_that_does_not_import_has_no_name(make_lab: Callable[[], Any], code: str, said: str) -> None:
    """Whatever an import dies of is told with the end of its log, and no name is given."""
    lab = make_lab()
    with pytest.raises(ImageNotVerified) as refused:
        lab.build(lab.plan(code))
    assert said in refused.value.message
    assert len(refused.value.log_tail) < 5000
    assert lab.layout.named() == ()


def test_an_import_that_never_ends_is_ended(make_lab: Callable[[], Any]) -> None:
    """A module that waits forever is killed at the limit, with all it started."""
    lab = make_lab()
    with pytest.raises(ImageNotVerified, match="took longer than 1 s"):
        lab.build(lab.plan("import time; time.sleep(1000)\n"), limit=timedelta(seconds=1))
    assert lab.layout.named() == ()


def test_an_import_sees_the_image_and_may_write_nowhere_else(make_lab: Callable[[], Any]) -> None:
    """Environment of the image only, no network, no way to change the project or what lies below it."""
    code = """\
import os, socket
class Model: pass
assert os.environ["SAID"] == "by the image" and os.environ["HOME"] == "/data"
assert set(os.environ) <= {"SAID", "HOME", "PATH", "PYTHONPYCACHEPREFIX", "LC_CTYPE"}, os.environ
assert not os.path.exists("/home") and not os.path.exists("/root/.ssh")
for place in ("/app/x", "/opt/mendel/x", "/x"):
    try:
        open(place, "w")
    except OSError:
        continue
    raise AssertionError(f"{place} can be written")
for place in ("/data/x", "/tmp/x", "/dev/shm/x", "/dev/null"):
    open(place, "w").close()
try:
    socket.create_connection(("127.0.0.1", 1), timeout=1)
except OSError as error:
    assert error.errno == 101, error  # no network at all
"""
    if os.geteuid() == 0:
        code += "assert (os.getuid(), os.getgid(), os.getgroups()) == (10001, 10001, [10001])\n"
    lab = make_lab()
    lab.build(lab.plan(code))


def test_equal_size_and_time_hide_no_change(make_lab: Callable[[], Any]) -> None:
    """Byte-code of one version of the project's code is never taken for another of the same size."""
    lab = make_lab()
    lab.build(lab.plan("class Model: pass\nX = 1\n"))
    with pytest.raises(ImageNotVerified, match="it fails"):
        lab.build(lab.plan("class Model: pass\nraise RuntimeError('it fails')\n"))
    lab.build(lab.plan("class Model: pass\nX = 2\n" + "#" * 24))


def test_an_image_is_verified_once(make_lab: Callable[[], Any], tmp_path: Path) -> None:
    """The same digest needs no second import on the same machine."""
    lab = make_lab()
    plan, engine = lab.plan("class Model: once = True\n"), lab.engine()
    image = engine.build(plan, use_cache=True, on_progress=lambda _: None)
    engine.verify(plan, image)
    said: list[Any] = []
    engine = lab.engine()
    engine.build(plan, use_cache=True, on_progress=said.append)
    said.clear()
    engine.verify(plan, image)
    assert said == []
    engine.close()


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_told_and_leaves_nothing(lab: ModuleType, tmp_path: Path) -> None:
    """Where the layers do not fit, the disk is named, no name is given, and no half of a blob takes the room."""
    if os.geteuid():
        pytest.skip("needs root, to mount a small disk")
    room = tmp_path / "room"
    with small_disk(room, "3m"):
        it = lab.empty_lab(room)
        (room / "project").mkdir()
        (room / "project" / "model.bin").write_bytes(os.urandom(1_800_000))
        plan, engine = it.plan("class Model: pass\n", artifacts=("model.bin",)), it.engine()
        with pytest.raises(StoreUnavailable, match="full"):
            engine.build(plan, use_cache=True, on_progress=lambda _: None)
        assert it.layout.named() == ()
        assert list(room.rglob(".unfinished-*")) == []


def run(room: Path, *, python: str = sys.executable, artifacts: str = "", pause: float = 0) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, str(LAB), str(room), artifacts, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    answered: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answered


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "TERM", "KILL"])
def test_a_build_that_is_killed_names_nothing(lab: ModuleType, tmp_path: Path, kill: signal.Signals) -> None:
    """Killed while it reads an artefact, a build leaves no image; the next one finds everything else made."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "model.bin").write_bytes(os.urandom(3 << 20))
    process = run(tmp_path, artifacts="model.bin", pause=0.5)
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.send_signal(kill)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert lab.Layout(tmp_path / "images").named() == ()
    assert "digest" in answer(run(tmp_path, artifacts="model.bin"))


def test_two_builds_at_once_are_one_image(tmp_path: Path) -> None:
    """Processes that build the same into the same layout, with the same cache, both end well with one digest."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "model.bin").write_bytes(os.urandom(5 << 20))
    run(tmp_path).communicate(timeout=60)  # makes wheels and base, which are no part of the race
    shutil.rmtree(tmp_path / "cache")
    running = [run(tmp_path, artifacts="model.bin") for _ in range(2)]
    assert len({answer(process)["digest"] for process in running}) == 1


def test_a_large_artefact_passes_through_little_memory(tmp_path: Path) -> None:
    """128 MiB of artefact cost no more memory than 4 MiB and a little."""
    (tmp_path / "project").mkdir()
    for name, size in (("small.bin", 4 << 20), ("huge.bin", 128 << 20)):
        with (tmp_path / "project" / name).open("wb") as file:
            file.truncate(size)
    small = answer(run(tmp_path, artifacts="small.bin"))["peak_kib"]
    huge = answer(run(tmp_path, artifacts="huge.bin"))["peak_kib"]
    assert huge < small + 32_000


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_another_python_builds_the_same_bytes(tmp_path: Path, version: str) -> None:
    """The digest does not depend on the Python that runs Mendel, nor on its zlib, tarfile or zipfile."""
    environment = prepared(other_python(version), version)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for room in (ours, theirs):
        (room / "project").mkdir(parents=True)
        (room / "project" / "model.bin").write_bytes(b"weights" * 500_000)
    shutil.copytree(ours, theirs, dirs_exist_ok=True)
    first = answer(run(ours, artifacts="model.bin"))["digest"]
    shutil.copytree(ours / "wheels", theirs / "wheels")  # made by zipfile: an input, pinned by its digest
    assert answer(run(theirs, python=environment, artifacts="model.bin"))["digest"] == first


def prepared(python: str, version: str) -> str:
    """An environment of that Python with what the builder imports, kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mendel-tests"
    environment = cache / f"builder-{version}"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv is not None
    own = str(environment / "bin" / "python")
    if (
        subprocess.run([own, "-c", "import deflate, numpy, msgspec, yaml"], check=False).returncode
        if environment.exists()
        else 1
    ):
        subprocess.run([uv, "venv", "-q", "--clear", "--python", python, str(environment)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", own, *NEEDED.split()], check=True)
    return own


def test_podman_loads_the_archive_and_runs_it(
    make_lab: Callable[[], Any], tmp_path: Path, need: Callable[..., None], podman_environment: dict[str, str]
) -> None:
    """``--output`` is a file that podman loads under every name, with the id we gave it, and that runs as its user."""
    need("podman", "runc")
    lab = make_lab()
    plan = lab.plan("class Model: loaded = True\n")
    lab.build(plan)
    record = LayoutImages(lab.layout).images()[0]
    write_archive(lab.layout, record.digest, record.references, tmp_path / "image.tar")

    def podman(*arguments: str) -> str:
        done = subprocess.run(
            ["podman", *arguments], env=podman_environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    podman("load", "--input", str(tmp_path / "image.tar"))
    ids = {podman("inspect", "--format", "{{.Id}}", f"localhost/{reference}") for reference in record.references}
    assert ids == {lab.layout.manifest(record.digest).config.digest.hex}
    ask = "import alpha, model, os, sys; open('/data/x', 'w'); print(os.getuid(), os.getcwd(), sys.prefix)"
    said = podman("run", "--rm", f"localhost/{record.references[0]}", "/opt/mendel/bin/python", "-c", ask)
    assert said == "10001 /app /opt/mendel"


def test_our_unpacking_is_that_of_umoci(make_lab: Callable[[], Any], tmp_path: Path, need: Callable[..., None]) -> None:
    """Names, kinds, modes, owners, times and contents are those that umoci, another reader, makes of the same image."""
    need("umoci")
    lab = make_lab()
    digest = lab.build(lab.plan("class Model: umoci = True\n"))
    layout, ours, theirs = lab.layout, tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    diff_ids = json.loads(layout.read(layout.manifest(digest).config.digest))["rootfs"]["diff_ids"]
    for layer, diff_id in zip(layout.manifest(digest).layers, diff_ids, strict=True):
        unpack(layout, layer, diff_id, ours)
    image = f"{layout.directory}:risk/credit:latest"
    subprocess.run(["umoci", "unpack", "--image", image, str(theirs)], check=True, capture_output=True)
    assert seen(ours) == seen(theirs / "rootfs")


def seen(root: Path) -> dict[str, tuple[object, ...]]:
    """What there is below *root*; of directories not the time, which nobody keeps."""
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        what: tuple[object, ...] = (oct(status.st_mode), status.st_uid, status.st_gid)
        if path.is_symlink():
            what = (*what, path.readlink())
        elif path.is_file():
            what = (*what, int(status.st_mtime), hash(path.read_bytes()))
        found[str(path.relative_to(root))] = what
    return found


def test_a_container_that_may_not_mount_verifies_too(tmp_path: Path) -> None:
    """Root without the right to mount, as in an unprivileged container of a CI, imports in a plain change of root."""
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv (util-linux)")
    program = (
        f"import sys; sys.path[:0] = {[str(SOURCES), str(Path(__file__).parent), *sys.path[1:]]!r}\n"
        "import importlib.util; from pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('real', {__file__!r})\n"
        "real = importlib.util.module_from_spec(spec); spec.loader.exec_module(real)\n"
        "import builder_lab\n"
        "from mendel.errors import ImageNotVerified\n"
        f"room = Path({str(tmp_path)!r})\n"
        "entries, interpreter = real.own_python()\n"
        "version = f'{sys.version_info.major}.{sys.version_info.minor}'\n"
        "base = builder_lab.make_base(room / 'base', entries, interpreter=interpreter, python=version)\n"
        "lab = builder_lab.Lab(room, base)\n"
        'user = \'import alpha, os; assert os.getuid() == 10001; open("/data/x", "w"); open("/tmp/x", "w")\\n\'\n'
        "print(lab.build(lab.plan(user + 'class Model: pass\\n')))\n"
        'try:\n    lab.build(lab.plan(\'open("/app/x", "w")\\n\'))\n'
        "except ImageNotVerified as error:\n    print(error.message)\n"
    )
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", program]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert said[0].startswith("sha256:")
    assert "Permission denied: '/app/x'" in said[1]
