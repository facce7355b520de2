"""The tools of this machine for building and releasing: git, container engines, extras of Mendel."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec

from mendel.app.images.bases import credential_files

PATIENCE = timedelta(seconds=3)

_VERSION = re.compile(r"\d+\.\d+[0-9A-Za-z.+-]*")

_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "git": ("version",),
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("info", "--format", "{{.Version.Version}}"),
    "buildah": ("--version",),
}
_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "build": ("deflate", "packaging", "pip"),
    "catboost": ("catboost",),
    "hub": ("sqlalchemy", "dbos", "mlflow"),
    "lightgbm": ("lightgbm",),
    "onnx": ("onnxruntime",),
    "pyfunc": ("mlflow", "pandas"),
    "pytorch": ("torch",),
    "xgboost": ("xgboost",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An external program; ``said`` is its version, or the reason why the program does not answer."""

    name: str
    path: str | None
    answers: bool
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """An optional part of Mendel; ``missing`` names the packages that are not installed."""

    name: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The tools of this machine; ``credentials`` lists existing files of registry logins, whose content is not read."""

    programs: tuple[Program, ...]
    extras: tuple[Extra, ...]
    credentials: tuple[str, ...]


def this_machine(environment: Mapping[str, str], *, patience: timedelta = PATIENCE) -> Machine:
    """Ask all programs in parallel; a program that hangs is killed after *patience* and reported as not answering."""
    with ThreadPoolExecutor(len(_PROGRAMS)) as threads:
        programs = threads.map(lambda one: _program(one[0], one[1], environment, patience), _PROGRAMS.items())
        found = tuple(programs)
    return Machine(
        programs=found,
        extras=tuple(
            Extra(name=name, missing=tuple(package for package in packages if find_spec(package) is None))
            for name, packages in _EXTRAS.items()
        ),
        credentials=tuple(str(path) for path in credential_files(environment) if path.is_file()),
    )


def _program(name: str, arguments: Sequence[str], environment: Mapping[str, str], patience: timedelta) -> Program:
    path = shutil.which(name, path=environment.get("PATH"))
    if path is None:
        return Program(name=name, path=None, answers=False, said="not installed")
    answers, said = _asked([path, *arguments], environment, patience)
    return Program(name=name, path=path, answers=answers, said=said)


def _asked(command: Sequence[str], environment: Mapping[str, str], patience: timedelta) -> tuple[bool, str]:
    try:
        process = subprocess.Popen(  # noqa: S603 - a fixed list of arguments, never a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        return False, f"cannot be started: {error.strerror}"
    with process:
        try:
            said, _ = process.communicate(timeout=patience.total_seconds())
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return False, f"no answer within {patience.total_seconds():g} s"
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "said nothing"
    version = _VERSION.search(last)
    return (True, version.group()) if process.returncode == 0 and version else (False, last)
