"""Does the predictor import in the image? Tried where it would run: in its files, as its user, with its interpreter."""

from __future__ import annotations

import os
import platform
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from mendel.adapters.oci.documents import parse_json
from mendel.adapters.oci.layout import Layout
from mendel.adapters.oci.rootfs import Layers, UnpackedLayers
from mendel.adapters.oci.unpacking import read_only_copy, unpack
from mendel.errors import ImageNotVerified, Unsupported
from mendel.images import APP, USER_ID, VENV, BuiltImage, ImagePlan, OnProgress, Part, Platform, Progress
from mendel.values import Digest

MODULE_LABEL = "com.classifier.predictor.module"
CLASS_LABEL = "com.classifier.predictor.class"

_TAIL_BYTES = 4096
_READY = b"ready\n"
_BYTECODE = "/.bytecode"
_MOUNT_POINTS = ("app", "data", "dev", "proc", "tmp", _BYTECODE.lstrip("/"))
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REMEDY = (
    "Build as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1; in a container: "
    "--security-opt seccomp=unconfined)."
)

_SET_UP = """\
set -eu
root=$1 app=$2 bytecode=$3 owner=$4; shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t proc proc "$root/proc" 2>/dev/null || :
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o "mode=0755$owner" tmpfs "$root/data"
mount --bind "$app" "$root/app"
mount --bind "$bytecode" "$root/.bytecode"
mount -o remount,bind,ro "$root/app" 2>/dev/null || :
mount -o remount,bind,ro "$root" 2>/dev/null || :
echo ready
exec "$@"
"""

_IMPORT = """\
import importlib, importlib.util, os, sys
os.chdir(sys.argv[1])
sys.path[0] = os.getcwd()
if importlib.util.find_spec("mendel") is None:
    sys.exit("The image has no Mendel to serve with.")
for module, name in zip(sys.argv[2::2], sys.argv[3::2]):
    if not hasattr(importlib.import_module(module), name):
        sys.exit(f"{module} has no {name}.")
"""


class Verifier:
    """
    Imports predictors in unpacked images; constructs none, so that no artefact is loaded.

    What does not belong to the project is unpacked once for every combination of layers, and stays. An image that was
    verified on this machine is not verified again. Byte-code of what was imported is kept beside the unpacked layers,
    never in them, and never for the project's own modules, whose sizes and times need not change when they do.

    Args:
        directory: The cache of unpacked layers.
        limit: How long an import may take.
    """

    def __init__(self, directory: Path, *, limit: timedelta = timedelta(minutes=2)) -> None:
        self._directory = directory
        self._trees = UnpackedLayers(directory / "layers")
        self._limit = limit

    def verify(self, layout: Layout, plan: ImagePlan, image: BuiltImage, *, on_progress: OnProgress) -> None:
        """
        Import the predictor of *plan* in *image*; on another processor than this machine's, say that nobody did.

        Raises:
            ImageNotVerified: It cannot be imported; carries the end of what was printed.
            Unsupported: The kernel lets nobody run something in a directory of its own, or a program is missing.
        """
        if Platform.parse(plan.environment.platform).machine != platform.machine():
            on_progress(
                Progress(doing=f"not verified: {plan.environment.platform} does not run on {platform.machine()}")
            )
            return
        known = self._directory / "verified" / image.digest.hex
        if known.exists():
            return
        on_progress(Progress(doing="verifying"))
        manifest = layout.manifest(image.digest)
        layers = list(zip(manifest.layers, (layer.diff_id for layer in image.layers), strict=True))
        of_project = sum(layer.part in {Part.ARTIFACTS, Part.CODE} for layer in image.layers)
        below, above = layers[: len(layers) - of_project], layers[len(layers) - of_project :]
        with self._trees.tree(layout, below) as tree, self._project(layout, above) as app:
            self._import(plan, tree, app, _environment(layout, manifest.config.digest))
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()

    @contextmanager
    def _project(self, layout: Layout, layers: Layers) -> Iterator[Path]:
        """The project's files together: artefacts as they were unpacked once, code fresh."""
        *artifacts, (code, diff_id) = layers
        with self._trees.scratch() as scratch:
            scratch.chmod(0o755)
            if artifacts:
                with self._trees.tree(layout, artifacts) as tree:
                    read_only_copy(tree / "root", scratch)
            unpack(layout, code, diff_id, scratch)
            yield scratch / str(APP).lstrip("/")

    def _import(self, plan: ImagePlan, tree: Path, app: Path, environment: Sequence[str]) -> None:
        bytecode = _prepare(tree)
        command = [
            *("env", "-i", *environment, f"PYTHONPYCACHEPREFIX={_BYTECODE}", *_chroot(tree / "root")),
            *import_command(plan),
        ]
        owner = f",uid={USER_ID},gid={USER_ID}" if _is_root() else ""
        order = ["sh", "-c", _SET_UP, "sh", str(tree / "root"), str(app), str(bytecode), owner, *command]
        with tempfile.TemporaryFile() as said:
            status = self._run([*_unshare(), *order], said.fileno())
            tail, is_ready = _end_of(said.fileno())
        if not is_ready:
            raise Unsupported(f"The image cannot be verified on this machine: {tail.strip()}", remedy=_REMEDY)
        if status != 0:
            raise not_verified(plan, tail)

    def _run(self, command: Sequence[str], output: int) -> int:
        with subprocess.Popen(  # noqa: S603 - the script is ours and every value an argument of its own
            command, env={"PATH": _SYSTEM_PATH}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as running:
            try:
                if _ends_within(running.pid, self._limit):
                    return running.wait()
            finally:
                running.kill()
        raise ImageNotVerified(
            f"The import in the image takes longer than {self._limit.total_seconds():.0f} s.",
            remedy="Do not load models or reach for the network while a module is imported.",
        )


def import_command(plan: ImagePlan) -> tuple[str, ...]:
    """What imports the predictor of *plan*, run inside its image."""
    wanted = [_import_name(plan.labels[MODULE_LABEL]), plan.labels[CLASS_LABEL]] if _is_of_project(plan) else []
    return (f"{VENV}/bin/python", "-c", _IMPORT, plan.run.working_directory, *wanted)


def not_verified(plan: ImagePlan, tail: str) -> ImageNotVerified:
    """The error for an import that ended badly, having printed *tail* last."""
    name, module = plan.labels.get(CLASS_LABEL), plan.labels.get(MODULE_LABEL)
    what = f"{name} cannot be imported from {module}" if _is_of_project(plan) else "Mendel does not start"
    return ImageNotVerified(
        f"{what} in the image: {_last_line(tail)}",
        log_tail=tail,
        remedy="Add what is missing to the requirements, or use a base image that has the library.",
    )


def _is_of_project(plan: ImagePlan) -> bool:
    return {MODULE_LABEL, CLASS_LABEL} <= plan.labels.keys()


def _ends_within(pid: int, limit: timedelta) -> bool:
    """Wait for a process without asking again and again, which would cost a code change 25 ms."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], limit.total_seconds())[0])
    finally:
        os.close(descriptor)


def _prepare(tree: Path) -> Path:
    """Places for mounts in the unpacked layers, and a directory for byte-code that holds none of the project's."""
    for name in _MOUNT_POINTS:
        path = tree / "root" / name
        if path.is_symlink():
            path.unlink()
        path.mkdir(exist_ok=True)
    bytecode = tree / "bytecode"
    bytecode.mkdir(exist_ok=True)
    bytecode.chmod(0o755)
    (bytecode / str(APP).lstrip("/")).touch()  # a file where a directory would be: nothing is ever kept for it
    if _is_root():
        os.chown(bytecode, USER_ID, USER_ID)
    return bytecode


def _is_root() -> bool:
    return os.geteuid() == 0


def _unshare() -> tuple[str, ...]:
    mapped = () if _is_root() else ("--user", "--map-root-user")
    return (_program("unshare"), *mapped, "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc")


def _chroot(root: Path) -> tuple[str, ...]:
    as_user = (f"--userspec={USER_ID}:{USER_ID}", f"--groups={USER_ID}") if _is_root() else ()
    return (_program("chroot"), *as_user, str(root))


def _program(name: str) -> str:
    """Where this machine has it, since the image's own PATH is already set when it is started."""
    found = shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise Unsupported(
            f"Images are verified with {name}, which this machine has not.", remedy="Install util-linux and coreutils."
        )
    return found


def _environment(layout: Layout, config: Digest) -> list[str]:
    settings = parse_json(layout.read(config)).get("config") or {}
    return [str(text) for text in settings.get("Env") or ()]


def _import_name(module: str) -> str:
    return module.removesuffix(".py").removeprefix("./").replace("/", ".")


def _end_of(output: int) -> tuple[str, bool]:
    """The end of what was printed, and whether everything was set up before."""
    size = os.fstat(output).st_size
    is_ready = _READY in os.pread(output, _TAIL_BYTES, 0)
    tail = os.pread(output, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return tail.replace(_READY, b"", 1).decode(errors="replace"), is_ready


def _last_line(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."
