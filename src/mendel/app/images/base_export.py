"""Writes the base image that a project's lock pins to one file."""

from __future__ import annotations

from pathlib import Path

from mendel.adapters.oci.layout.layout import Layout
from mendel.app.images.bases import bases_for
from mendel.app.images.cache_directories import places_of
from mendel.app.images.lockfile import read_lock
from mendel.errors import StaleLock
from mendel.images import LOCK_FILE, BasePin, OnProgress, Platform
from mendel.images.image_archives import write_archive
from mendel.projects import chosen_classifier, load_project

_NAME = "base"


def export_base(
    path: Path | None, classifier: str | None, platform: Platform, output: Path, *, on_progress: OnProgress
) -> tuple[BasePin, int]:
    """
    Write the pinned base image to *output*; give the pin and the size of the file in bytes.

    Raises:
        StaleLock: The project has no lock, or the lock has no entry for the classifier and platform.
        ImageNotFound: No machine that is reachable has the pinned base image.
        StoreUnavailable: The file cannot be written.
    """
    project = load_project(path or Path.cwd())
    lock = read_lock(project.root)
    if lock is None:
        raise StaleLock(f"{project.root} has no {LOCK_FILE}, so no base image is pinned.", remedy="Run: mendel lock")
    places = places_of(project.root)
    pin = lock.environment(chosen_classifier(project, classifier).name, platform).base
    bases_for(places).load(pin, platform, on_progress=on_progress)
    write_archive(Layout(places.cache / "bases"), pin.digest, [_NAME], output)
    return pin, output.stat().st_size
