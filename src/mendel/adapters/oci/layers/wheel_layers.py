"""The environment of an image as layers: a scaffold, one layer for each large wheel, one for all small ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mendel.adapters.oci.layers.wheel_archives import WheelFile, wheel_files
from mendel.errors import BuildRefused
from mendel.images import APP, DATA, USER_ID, VENV, BasePin, WheelPin
from mendel.images.tar_archives import Directory, Entry, File, Symlink

LARGE_BYTES = 1 << 20
MOST_LARGE = 64
"""Layers for single wheels in one image; engines stop at 127 layers, and a base has some of its own."""

_SHOWN_REASONS = 20


def scaffold(base: BasePin) -> tuple[Entry, ...]:
    """What stands before any wheel: the environment's interpreter, and the directories every image has."""
    venv, interpreter = str(VENV).lstrip("/"), base.interpreter
    settings = (
        f"home = {interpreter.rpartition('/')[0]}\ninclude-system-site-packages = false\nversion = {base.python}\n"
    )
    return (
        Directory(path=str(APP).lstrip("/")),
        Directory(path=str(DATA).lstrip("/"), owner=USER_ID),
        Directory(path=f"{venv}/lib/python{base.python}/site-packages"),
        File.of(f"{venv}/pyvenv.cfg", settings.encode()),
        Symlink(path=f"{venv}/bin/python", target=interpreter),
        Symlink(path=f"{venv}/bin/python3", target="python"),
        Symlink(path=f"{venv}/bin/python{base.python}", target="python"),
    )


def grouped(pins: Sequence[WheelPin]) -> tuple[tuple[WheelPin, ...], ...]:
    """
    Which wheels share a layer: each large one has its own, by name; the others share the last.

    A wheel that changes then moves few bytes, and the number of layers stays bounded whatever there is.
    """
    large = sorted((pin for pin in pins if pin.size_bytes >= LARGE_BYTES), key=lambda pin: (-pin.size_bytes, pin.name))
    alone = {pin.name for pin in large[:MOST_LARGE]}
    by_name = sorted(pins, key=lambda pin: pin.name)
    together = tuple(pin for pin in by_name if pin.name not in alone)
    singles = tuple((pin,) for pin in by_name if pin.name in alone)
    return (*singles, together) if together else singles


@contextmanager
def wheel_entries(wheels: Mapping[str, Path], *, python: str) -> Iterator[tuple[File, ...]]:
    """
    The files of *wheels* (by the name of the distribution) in one layer, readable while the block is open.

    What two of them bring alike stands there once.
    """
    with ExitStack() as opened:
        found: dict[str, WheelFile] = {}
        for _, path in sorted(wheels.items()):
            for file in opened.enter_context(wheel_files(path, python=python)):
                found.setdefault(file.path, file)
        yield tuple(
            File(path=file.path, size=file.size, content=file.content, executable=file.executable)
            for file in found.values()
        )


def refuse_disagreement(wheels: Mapping[str, Path], base: BasePin) -> None:
    """
    Make sure that no file of an environment depends on the order in which its wheels are unpacked.

    Raises:
        BuildRefused: Two wheels bring the same path with other content, or one brings what the environment has.
        Corrupt: One is not a wheel, or damaged.
    """
    owners: dict[str, tuple[str, int, int]] = {
        entry.path: ("the environment itself", -1, -1) for entry in scaffold(base) if not isinstance(entry, Directory)
    }
    reasons: list[str] = []
    for name, path in sorted(wheels.items()):
        with wheel_files(path, python=base.python) as files:
            for file in files:
                owner, *content = owners.setdefault(file.path, (name, file.size, file.crc))
                if owner != name and content != [file.size, file.crc]:
                    reasons.append(f"{owner} and {name} both bring /{file.path}, and not the same.")
    reasons += _files_as_directories(owners)
    if reasons:
        raise BuildRefused(
            f"The wheels do not go together: {' '.join(reasons[:_SHOWN_REASONS])}",
            reasons=tuple(reasons),
            remedy="Leave one of them out of the requirements, or ask for another version of it.",
        )


def _files_as_directories(owners: Mapping[str, tuple[str, int, int]]) -> Iterable[str]:
    seen: set[str] = set()
    for path, (name, *_) in owners.items():
        parent = path
        while (parent := parent.rpartition("/")[0]) and parent not in seen:
            seen.add(parent)
            if parent in owners:
                yield f"{owners[parent][0]} brings the file /{parent}, {name} a directory of that name."
