"""
Run a command inside an unpacked image, isolated as far as the kernel allows.

With root rights or user namespaces, the command gets its own mounts, processes and network. In a container that may not
mount, root uses only a change of root (``chroot``): the files are the same, but processes and network are the
container's.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mendel.adapters.oci.layers.unpacking import read_only_copy
from mendel.errors import DeadlineExceeded, Unsupported
from mendel.images import APP, DATA, USER_ID

_TAIL_BYTES = 4096
_READY = b"ready\n"
_CHROOT_FAILED = 125
_BYTECODE = "/.bytecode"
_APP, _DATA = (str(path).lstrip("/") for path in (APP, DATA))
_MOUNT_POINTS = (_APP, _DATA, "dev", "proc", "tmp", _BYTECODE.lstrip("/"))
_DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REMEDY = (
    "Build as root, or allow user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (on Ubuntu), "
    "sysctl -w kernel.unprivileged_userns_clone=1 (on older Debian)."
)

_WITH_MOUNTS = """\
set -eu
root=$1 app=$2 bytecode=$3 owner=$4; shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
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

_WITHOUT_MOUNTS = 'echo ready; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The exit status of a command, and the end of its output."""

    status: int
    tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """
    An unpacked image in two parts: everything outside the project, and the project.

    Attributes:
        tree: A cached directory: ``root`` has the files outside the project, ``bytecode`` their compiled byte-code.
            Project byte-code is never cached, because a changed source can keep its size and time.
        app: The project directory, made for this run only.
    """

    tree: Path
    app: Path

    def run(self, command: Sequence[str], environment: Sequence[str], *, limit: timedelta) -> Ended:
        """
        Run *command* as the image's user with only the variables of *environment*; written files are discarded.

        Raises:
            DeadlineExceeded: The command ran longer than *limit* and was killed.
            Unsupported: The kernel allows neither mounts nor a change of root, or a program is missing.
        """
        ended, is_ready = self._with_mounts(command, environment, limit)
        if not is_ready and _is_root():
            ended, is_ready = self._without_mounts(command, environment, limit)
        if not is_ready:
            raise Unsupported(
                f"The predictor cannot be loaded in the image on this machine: {ended.tail.strip()}", remedy=_REMEDY
            )
        return ended

    def _with_mounts(self, command: Sequence[str], environment: Sequence[str], limit: timedelta) -> tuple[Ended, bool]:
        bytecode = self._prepare()
        mapped = () if _is_root() else ("--user", "--map-root-user")
        apart = (_program("unshare"), *mapped, "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc")
        owner = f",uid={USER_ID},gid={USER_ID}" if _is_root() else ""
        root = self.tree / "root"
        set_up = ("sh", "-c", _WITH_MOUNTS, "sh", str(root), str(self.app), str(bytecode), owner)
        changed = _changing_root(root, (*environment, f"PYTHONPYCACHEPREFIX={_BYTECODE}"))
        return _run((*apart, *set_up, *changed, *command), limit)

    def _without_mounts(
        self, command: Sequence[str], environment: Sequence[str], limit: timedelta
    ) -> tuple[Ended, bool]:
        """Run in a hard-link copy of the image with ``chroot``; the image's user owns only its data directory."""
        root = self.app.parent / ".root"
        root.mkdir()
        read_only_copy(self.tree / "root", root)
        (root / _APP).rmdir()
        self.app.rename(root / _APP)
        os.chown(root / _DATA, USER_ID, USER_ID)
        (root / "dev" / "shm").mkdir(exist_ok=True)
        for shared in ("tmp", "dev/shm"):
            (root / shared).chmod(stat.S_ISVTX | stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
        for name, (major, minor) in _DEVICES.items():
            with suppress(PermissionError, FileExistsError):
                os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        changed = _changing_root(root, (*environment, "PYTHONDONTWRITEBYTECODE=1"))
        return _run(("sh", "-c", _WITHOUT_MOUNTS, "sh", *changed, *command), limit)

    def _prepare(self) -> Path:
        """
        Create the mount points in the unpacked image, and the directory for byte-code beside it; give its path.

        Python can store no byte-code of the project there, because the project's place is a file.
        """
        for name in _MOUNT_POINTS:
            path = self.tree / "root" / name
            if path.is_symlink():
                path.unlink()
            path.mkdir(exist_ok=True)
        bytecode = self.tree / "bytecode"
        bytecode.mkdir(exist_ok=True)
        bytecode.chmod(0o755)
        (bytecode / _APP).touch()  # a file in place of the directory prevents Python from caching project byte-code
        if _is_root():
            os.chown(bytecode, USER_ID, USER_ID)
        return bytecode


def _run(command: Sequence[str], limit: timedelta) -> tuple[Ended, bool]:
    """Run to the end; the flag says whether the sandbox was set up and the command was started."""
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(  # noqa: S603 - the scripts are ours and every value is an argument of its own
            command,
            env={"PATH": _SYSTEM_PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as running,
    ):
        try:
            if not _ends_within(running.pid, limit):
                raise DeadlineExceeded(f"The command in the image ran longer than {limit.total_seconds():.0f} s.")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        tail, is_ready = _end_of(output.fileno())
        status = running.wait()
    is_changed = status != _CHROOT_FAILED or "chroot: " not in tail
    return Ended(status=status, tail=tail), is_ready and is_changed


def _ends_within(pid: int, limit: timedelta) -> bool:
    """Wait for a process without polling, which would delay every check by up to 25 ms."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], limit.total_seconds())[0])
    finally:
        os.close(descriptor)


def _end_of(output: int) -> tuple[str, bool]:
    size = os.fstat(output).st_size
    is_ready = _READY in os.pread(output, _TAIL_BYTES, 0)
    tail = os.pread(output, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return tail.replace(_READY, b"", 1).decode(errors="replace"), is_ready


def _changing_root(root: Path, environment: Sequence[str]) -> tuple[str, ...]:
    """
    Give the command prefix that changes the root; ``chroot`` has its full path, because ``env`` sets the image's PATH.
    """
    as_user = (f"--userspec={USER_ID}:{USER_ID}", f"--groups={USER_ID}") if _is_root() else ()
    return ("env", "-i", *environment, _program("chroot"), *as_user, str(root))


def _program(name: str) -> str:
    found = shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise Unsupported(
            f"The program {name}, which Mendel needs to verify images, is not installed.",
            remedy="Install the packages util-linux and coreutils.",
        )
    return found


def _is_root() -> bool:
    return os.geteuid() == 0
