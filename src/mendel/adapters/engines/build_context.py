"""Write the build context of a container engine: exactly the files of the image plan, each checked while copied."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterable
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

from mendel.errors import BuildRefused, Unsupported
from mendel.images import ContextFile, ImagePlan
from mendel.values import Digest
from mendel.values.time import to_micros

_CHUNK_BYTES = 1 << 20
_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_context(directory: Path, files: Iterable[ContextFile], plan: ImagePlan) -> None:
    """
    Write *files* below *directory* with the plan's times and modes, so that the engine's build cache recognises them.

    Raises:
        BuildRefused: A project file was changed or deleted after the plan was made.
    """
    planned = {file.source: file.digest for file in (*plan.artifacts, *plan.code)}
    when = to_micros(plan.created) * 1000
    for file in files:
        path = directory / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.source, bytes):
            path.write_bytes(file.source)
        elif file.source in planned:
            _copy_checked(file.source, path, planned[file.source])
        else:
            _link(file.source, path)
            continue
        path.chmod(0o755 if file.executable else 0o644)
        os.utime(path, ns=(when, when))
    for place in sorted((place for place in directory.rglob("*") if place.is_dir()), reverse=True):
        os.utime(place, ns=(when, when))


def pack_pip(into: Path) -> Path:
    """
    Pack the installed pip into a runnable wheel, for base images without pip; the same pip gives the same bytes.

    Raises:
        Unsupported: pip is not installed in this environment.
    """
    try:
        version, package = metadata.version("pip"), resources.files("pip")
    except (metadata.PackageNotFoundError, ModuleNotFoundError) as error:
        raise Unsupported(
            "This Python has no pip, which a build with docker, podman or buildah needs.",
            remedy="Run: pip install 'mendel[build]'",
        ) from error
    wheel = into / f"pip-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        _pack(archive, package, "pip")
    os.utime(wheel, (0, 0))
    return wheel


def _pack(archive: zipfile.ZipFile, place: Traversable, name: str) -> None:
    for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
        inner = f"{name}/{entry.name}"
        if entry.is_dir() and entry.name != "__pycache__":
            _pack(archive, entry, inner)
        elif entry.is_file():
            archive.writestr(zipfile.ZipInfo(inner, _FIRST_ZIP_DATE), entry.read_bytes(), zipfile.ZIP_DEFLATED)


def _copy_checked(source: Path, target: Path, digest: Digest) -> None:
    hashed = hashlib.sha256()
    try:
        with source.open("rb") as given, target.open("wb") as copy:
            while chunk := given.read(_CHUNK_BYTES):
                hashed.update(chunk)
                copy.write(chunk)
    except FileNotFoundError as error:
        reason = f"The file {source} was deleted during the build."
        raise BuildRefused(reason, reasons=(reason,), remedy="Build again.") from error
    if f"sha256:{hashed.hexdigest()}" != digest:
        reason = f"The file {source} was changed during the build."
        raise BuildRefused(reason, reasons=(reason,), remedy="Build again.")


def _link(source: Path, target: Path) -> None:
    """Hard-link a wheel into the build context, or copy the wheel where links are impossible."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copy2(source, target)
